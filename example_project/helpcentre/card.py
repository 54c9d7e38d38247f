"""What the cache did with one question, in words for a visitor."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

import aicache
from example_project.helpcentre.answers import Answer, NoAnswer

Words = str | Promise

MEANINGS: Final[dict[str, Words]] = {
    "hit": gettext_lazy("This answer was kept from an earlier call, so Claude was not called."),
    "stale": gettext_lazy("You got the earlier answer at once; a newer one is being fetched in the background."),
    "semantic": gettext_lazy("A question that means the same had been answered before, so Claude was not called."),
    "coalesced": gettext_lazy("Somebody was just asking the same; one call to Claude answered both of you."),
    "miss": gettext_lazy("No answer could be used, so Claude was called."),
    "bypass": gettext_lazy("The cache was left out: Claude was called, and nothing was kept."),
    "unscoped": gettext_lazy("Nobody said whose question this is: Claude was called, and nothing was kept."),
    "degraded": gettext_lazy("The cache was out of reach, so Claude was called without it."),
    "error": gettext_lazy("Claude gave no answer. Nothing was kept."),
}

REASONS: Final[dict[str, Words]] = {
    "asked": gettext_lazy("you asked for it"),
    "copy": gettext_lazy("Redis had lost it, and the database had a copy"),
    "database": gettext_lazy("the database does not answer"),
    "disabled": gettext_lazy("the cache is switched off in the settings"),
    "evicted": gettext_lazy("the earlier answer had to make room"),
    "expired": gettext_lazy("the earlier answer was too old"),
    "idempotency_conflict": gettext_lazy("this form had been sent before, with something else in it"),
    "idempotency_key": gettext_lazy("this very form had been sent before"),
    "invalidated": gettext_lazy("an article behind the earlier answer was saved or deleted, or its tag purged"),
    "new": gettext_lazy("there was no answer yet from what the articles say now"),
    "not_shared": gettext_lazy("the call that was under way gave an answer that may not be shared"),
    "policy": gettext_lazy("the earlier answer was kept for longer than is wanted here"),
    "refresh": gettext_lazy("you asked for a new answer"),
    "refused": gettext_lazy("Redis takes no new answers"),
    "source_changed": gettext_lazy("the article behind the earlier answer has changed"),
    "stop_reason": gettext_lazy("the answer is not complete, so it is not kept"),
    "superseded": gettext_lazy("an article was changed while Claude was answering, so this answer is not kept"),
    "switched_off": gettext_lazy("the cache is switched off"),
    "too_large": gettext_lazy("the answer is too large to be kept"),
    "unavailable": gettext_lazy("the answer could not be kept"),
    "uncommitted": gettext_lazy("an article behind it is being changed and is not saved yet"),
    "unknown": gettext_lazy("an earlier answer was to a slightly different question"),
    "unreachable": gettext_lazy("Redis does not answer"),
    "waited_out": gettext_lazy("waiting for somebody else's call took too long"),
}

SHORT_KEY: Final = 12


@dataclass(frozen=True, slots=True)
class Card:
    """``figures`` are the three to show large, ``rows`` the rest: label and value. With ``tags`` the answer dies.
    ``once``: the idempotency key, where that is why there was an answer."""

    status: str
    meaning: Words
    reason: str
    reason_words: Words
    figures: list[tuple[str, str]]
    rows: list[tuple[str, str]]
    tags: list[str]
    key: str
    once: str = ""

    @classmethod
    def of(cls, answer: Answer | NoAnswer, idempotency_key: str | None = None) -> Card:
        info = answer.info or aicache.CallInfo("error")
        return cls(
            info.status,
            MEANINGS[info.status],
            info.reason,
            REASONS.get(info.reason.partition(":")[0], ""),
            [
                (_("Time it took"), duration(answer.seconds)),
                (_("Tokens saved"), f"{info.saved_tokens:,}"),
                (_("Dollars saved"), dollars(info.saved_usd)),
            ],
            [
                (_("Age of the answer"), duration(info.age) if info.age else _("new")),
                (_("Expires in"), _("not kept") if info.expires_in is None else duration(info.expires_in)),
                (_("Waited for others"), duration(info.waited) if info.waited else _("no")),
            ],
            sorted(info.tags),
            info.key[:SHORT_KEY],
            (idempotency_key or "")[:SHORT_KEY] if info.reason == "idempotency_key" else "",
        )


def duration(seconds: float) -> str:
    """Two figures at most: 0.8 ms, 12 ms, 1.2 s, 4 min 58 s, 2 h 5 min."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def dollars(amount: Decimal | None) -> str:
    """To a hundredth of a cent, as one answer costs less than a cent."""
    if amount is None:
        return _("no price known")
    return f"${amount:.4f}" if amount else "$0"
