"""What costs most, and could cost less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.briefs import briefs
from aicache.admin.content import may_read
from aicache.admin.figures import number, percent, usd
from aicache.admin.nameless import called
from aicache.admin.owners import theirs
from aicache.admin.remembered import span
from aicache.conf import get_settings
from aicache.core.policy import END_OF_DAY, END_OF_HOUR
from aicache.ledger.report import Hotspot, lateness
from aicache.ledger.stats import NOTHING, Figures
from aicache.models import CacheEntry
from aicache.sight import Sight

ENDS: Final = {
    END_OF_HOUR: gettext_lazy("until the end of the hour"),
    END_OF_DAY: gettext_lazy("until the end of the day"),
}


def questions(request: HttpRequest, seen: Sight, spots: Sequence[Hotspot]) -> dict[str, str]:
    """First words of what was asked, by the key of its answer; as far as that is kept, and the user may read it."""
    if not (may_read(request) and request.user.has_perm("aicache.view_cacheentry")):
        return {}
    kept = theirs(CacheEntry.objects.using(get_settings().database), seen)
    rows = list(kept.filter(key__in=[spot.key for spot in spots]).only("key"))
    found = zip(rows, briefs(rows, words=True), strict=True)
    return {row.key: brief.question for row, brief in found if brief.question}


@dataclass(frozen=True, slots=True)
class Short:
    """A policy whose answers were asked for again after they had expired. ``remedy``: what a longer life would do."""

    policy: str
    life: str
    times: str
    usd: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Model:
    """``unpriced``: answers of it whose price is not known, "" where there are none."""

    name: str
    calls: str
    hit_rate: str
    upstream: str
    usd: str
    unpriced: str


def short_lives(parts: list[tuple[str, str, Figures]]) -> Iterator[Short]:
    by_policy: dict[str, Figures] = {}
    for policy, _model, figures in parts:
        by_policy[policy] = by_policy.get(policy, NOTHING) + figures
    dearest = sorted(by_policy.items(), key=lambda one: (-one[1]["expired_nano_usd"], -one[1]["expired"], one[0]))
    for policy, figures in dearest:
        if figures["expired"] > 0:
            yield Short(
                called(policy) or "–",
                _life(policy),
                number(figures["expired"]),
                usd(figures["expired_nano_usd"]),
                _remedy(figures),
            )


def models(parts: list[tuple[str, str, Figures]]) -> Iterator[Model]:
    by_model: dict[str, Figures] = {}
    for _policy, model, figures in parts:
        by_model[model] = by_model.get(model, NOTHING) + figures
    for model, figures in sorted(by_model.items(), key=lambda one: (-one[1]["spent_nano_usd"], -one[1].calls, one[0])):
        unpriced = figures["unpriced_spent"]
        yield Model(
            called(model) or "–",
            number(figures.calls),
            percent(figures.hit_rate),
            number(figures["upstream_calls"]),
            usd(figures["spent_nano_usd"]),
            _("%(number)s unpriced") % {"number": number(unpriced)} if unpriced else "",
        )


def _life(policy: str) -> str:
    known = get_settings().policies.get(policy)
    if known is None:
        return ""
    if isinstance(known.ttl, str):
        return str(ENDS[known.ttl])
    return span(timedelta(seconds=known.ttl))


def _remedy(figures: Figures) -> str:
    """The least that would have helped with every second of them, or else with as many as are known."""
    told = ""
    for seconds, reached in lateness(figures):
        told = _("%(share)s came within %(span)s") % {
            "share": percent(min(reached / figures["expired"], 1.0)),
            "span": span(timedelta(seconds=seconds)),
        }
        if reached * 2 >= figures["expired"]:
            break
    return told
