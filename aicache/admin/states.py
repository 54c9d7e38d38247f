"""Whether an entry would still be served, as far as the database knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from django.utils import timezone
from django.utils.translation import gettext as _

from aicache.admin.glance import Glance
from aicache.conf import get_settings, site
from aicache.core.tags import Tag, hanging, of_answer, place
from aicache.freshness.databases import aliases, silent
from aicache.freshness.generations import generations
from aicache.models import CacheEntry

Word = Literal["living", "expired", "invalidated", "purged", "retired", "unreadable", "unknown"]

AT_ONCE: Final = 450
"""Digests in one query, which names each twice: an old SQLite takes no more than 999."""


@dataclass(frozen=True, slots=True)
class State:
    """``tag``: what it was invalidated by."""

    word: Word
    tag: str = ""

    @property
    def label(self) -> str:
        match self.word:
            case "living":
                return _("living")
            case "expired":
                return _("expired")
            case "invalidated":
                return _("invalidated by %(tag)s") % {"tag": self.tag}
            case "purged":
                return _("purged")
            case "retired":
                return _("of another namespace")
            case "unreadable":
                return _("unreadable")
            case "unknown":
                return _("unknown")


def states(rows: Sequence[CacheEntry], seen: Sequence[Glance | None]) -> list[State]:
    """Of each row, in their order. ``seen``: the beginnings of their payloads, None of one that is unreadable.

    However many rows, as many queries as their tags need; and none for those that are dead anyway.
    """
    found = [_at_sight(row, glance) for row, glance in zip(rows, seen, strict=True)]
    undecided = [row for row, state in zip(rows, found, strict=True) if state is None]
    counted = _counted({tag for row in undecided for tag in _tags(row)})
    unheard = bool(silent())
    return [
        state or _by_counts(_tags(row), glance.generations if glance else None, counted, unheard)
        for row, glance, state in zip(rows, seen, found, strict=True)
    ]


def fates(row: CacheEntry, then: Sequence[int] | None) -> dict[Tag, bool | None]:
    """Of each tag that an answer hangs on, whether it has died since; None: that is not known. ``then``: the
    generations that it was kept with."""
    tags = _tags(row)
    if then is None or len(then) != len(tags):
        return dict.fromkeys(tags)
    now, unheard = _counted(tags), bool(silent())
    return {tag: _has_died(before, now[tag], unheard) for tag, before in zip(tags, then, strict=True)}


def _at_sight(row: CacheEntry, glance: Glance | None) -> State | None:
    if row.expires_at <= timezone.now():
        return State("expired")
    if place("entry", site(get_settings()), row.owner, row.key) != row.digest:
        return State("retired")
    return State("unreadable") if glance is None else None


def _tags(row: CacheEntry) -> tuple[Tag, ...]:
    """As ``core.records.Ask.counted`` has them."""
    return (*hanging(row.tags, row.owner), of_answer(row.lineage, row.key, row.owner))


def _counted(tags: Iterable[Tag]) -> dict[Tag, int]:
    everything, known = list(tags), aliases()
    found: dict[Tag, int] = {}
    for start in range(0, len(everything), AT_ONCE):
        batch = everything[start : start + AT_ONCE]
        found.update(zip(batch, generations(batch, among=known), strict=True))
    return found


def _by_counts(tags: Sequence[Tag], then: Sequence[int] | None, now: dict[Tag, int], unheard: bool) -> State:
    """``unheard``: a database is silent, so that the counts may be too low."""
    if then is None or len(then) != len(tags):
        return State("unknown")
    for tag, before in zip(tags, then, strict=True):
        if _has_died(before, now[tag], unheard):
            return State("invalidated", tag.shown) if tag.answer is None else State("purged")
    return State("unknown" if unheard else "living")


def _has_died(before: int, now: int, unheard: bool) -> bool | None:
    if now > before or (now < before and not unheard):
        return True
    return None if unheard else False
