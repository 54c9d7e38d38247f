"""The dashboard's large figures, each with what it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aicache.admin.figures import NONE, number, percent, seconds, usd
from aicache.admin.joints import clauses
from aicache.ledger.confidence import interval
from aicache.ledger.histogram import Histogram
from aicache.ledger.stats import Figures

Tone = Literal["", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Tile:
    """``note``: what the figure is made of."""

    name: str
    label: str
    value: str
    note: str
    tone: Tone = ""


def tiles(found: Figures, in_flight: int) -> Iterator[Tile]:
    yield _hit_rate(found)
    yield _saved(found)
    yield _avoided(found)
    yield _blocked(found)
    yield _wrong(found)
    yield _prompts(found)
    yield _times(found)
    yield Tile(
        "in_flight",
        _("In flight now"),
        number(in_flight),
        _("calls that are under way, as of a second or two ago"),
    )


def _hit_rate(found: Figures) -> Tile:
    asked = found.served + found["miss"]
    note = _("%(served)s of %(asked)s calls that asked the cache") % {
        "served": number(found.served),
        "asked": number(asked),
    }
    return Tile("hit_rate", _("Hit rate"), percent(found.hit_rate), note)


def _saved(found: Figures) -> Tile:
    net = found["saved_nano_usd"] - found["premium_nano_usd"]
    note = _("what the answers had cost, less %(premium)s for writing the prompt cache") % {
        "premium": usd(found["premium_nano_usd"])
    }
    if unpriced := found["unpriced"]:
        more = ngettext("%(number)s answer has no known price", "%(number)s answers have no known price", unpriced)
        note = clauses(note, more % {"number": number(unpriced)})
    return Tile("saved", _("Saved, net"), usd(net), note, "good" if net > 0 else "")


def _avoided(found: Figures) -> Tile:
    note = _("%(calls)s were made, for %(spent)s") % {
        "calls": number(found["upstream_calls"]),
        "spent": usd(found["spent_nano_usd"]),
    }
    if unpriced := found["unpriced_spent"]:
        more = ngettext("%(number)s of unknown price", "%(number)s of unknown price", unpriced)
        note = clauses(note, more % {"number": number(unpriced)})
    return Tile("avoided", _("Calls to Claude avoided"), number(found.served), note)


def _blocked(found: Figures) -> Tile:
    note = _("would have been served, had nothing invalidated them; %(stale)s were served stale, as policies allow") % {
        "stale": number(found["stale"])
    }
    return Tile("blocked", _("Stale answers blocked"), number(found["stale_blocked"]), note)


def _wrong(found: Figures) -> Tile:
    checked, wrong = found["checked"], found["wrong"]
    label = _("Wrong answers")
    if checked <= 0:
        return Tile("wrong", label, NONE, _("nobody has checked an answer: open one, and mark it as right or wrong"))
    low, high = interval(wrong, checked)
    note = _("%(wrong)s of %(checked)s that were checked; with 95 %% confidence between %(low)s and %(high)s") % {
        "wrong": number(wrong),
        "checked": number(checked),
        "low": percent(low),
        "high": percent(high),
    }
    return Tile("wrong", label, percent(wrong / checked), note, "bad" if wrong else "")


def _prompts(found: Figures) -> Tile:
    note = _(
        "of %(writes)s writes to the prompt cache, which cost %(lost)s more than reading; waiting saved %(gate)s"
    ) % {
        "writes": number(found["writes"]),
        "lost": usd(found["redundant_nano_usd"]),
        "gate": usd(found["gate_nano_usd"]),
    }
    tone: Tone = "bad" if found["redundant_writes"] else ""
    return Tile("redundant", _("Prefixes written twice"), number(found["redundant_writes"]), note, tone)


def _times(found: Figures) -> Tile:
    hits, upstream = Histogram.of_hits(found.numbers), Histogram.of_upstream(found.numbers)
    half, most = hits.quantile(0.5), hits.quantile(0.95)
    if half is None:
        note = _("there was no hit in this time")
    else:
        note = _("half of the hits take no longer, 95 %% no longer than %(most)s") % {"most": seconds(most)}
    if (upstream_half := upstream.quantile(0.5)) is not None:
        more = _("Claude: %(half)s and %(most)s") % {
            "half": seconds(upstream_half),
            "most": seconds(upstream.quantile(0.95)),
        }
        note = clauses(note, more)
    return Tile("times", _("A hit takes"), seconds(half), note)
