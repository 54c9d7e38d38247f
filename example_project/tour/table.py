"""The table at the end of the tour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from example_project.helpcentre.card import duration
from example_project.tour.records import Outcome
from example_project.tour.step import counted
from example_project.tour.terminal import Terminal

HEAD: Final = (
    ("", "", "", "Calls", "Tokens", "Dollars"),
    ("What was asked", "What the cache did", "Time", "to Claude", "saved", "saved"),
)
SIDES: Final = "<<>>>>"
GAP: Final = "  "

MEANINGS: Final = {
    "miss": "Claude was called, and the answer kept",
    "hit": "the kept answer, no call",
    "coalesced": "waited for a call that was under way, and shared its answer",
    "bypass": "the cache was left out",
    "degraded": "Redis was away, so Claude was called without the cache",
    "error": "Claude gave no answer",
    "killed": "the process died and got no answer",
}


def table(outcomes: Sequence[Outcome], terminal: Terminal) -> Iterator[str]:
    """Its lines. Under each row stands what was promised, and how it was broken, if it was."""
    rows = [_cells(outcome) for outcome in outcomes]
    total = _total(outcomes)
    widths = [max(map(len, column)) for column in zip(*HEAD, *rows, total, strict=True)]
    rule = "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
    yield from (terminal.bold(f"  {_line(head, widths)}") for head in HEAD)
    yield f"  {rule}"
    for outcome, row in zip(outcomes, rows, strict=True):
        yield f"{terminal.mark(not outcome.wrong)} {_line(row, widths)}"
        note = f" ({outcome.run.note})" if outcome.run.note else ""
        yield terminal.dim(f"    {outcome.promise}{note}")
        for complaint in outcome.wrong:
            yield terminal.red(f"    Not so: {complaint}.")
    yield f"  {rule}"
    yield terminal.bold(f"  {_line(total, widths)}")
    yield ""
    shown = {status for outcome in outcomes for status in outcome.statuses}
    shown |= {"killed" for outcome in outcomes if outcome.run.lost}
    for status, meaning in MEANINGS.items():
        if status in shown:
            yield terminal.dim(f"  {status:9}  {meaning}")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [f"{cell:{side}{width}}" for cell, width, side in zip(cells, widths, SIDES, strict=True)]
    return GAP.join(aligned).rstrip()


def _cells(outcome: Outcome) -> list[str]:
    lost = f", {outcome.run.lost} killed" if outcome.run.lost else ""
    return [
        outcome.name,
        counted(outcome.statuses) + lost,
        duration(outcome.seconds),
        str(outcome.calls),
        f"{outcome.tokens_saved:,}",
        _dollars(outcome.usd_saved),
    ]


def _total(outcomes: Sequence[Outcome]) -> list[str]:
    asked = sum(len(outcome.run.seen) + outcome.run.lost for outcome in outcomes)
    for_free = sum(bool(seen.tokens_saved) for outcome in outcomes for seen in outcome.run.seen)
    return [
        f"In all, {asked} questions",
        f"{for_free} answered without a call",
        duration(sum(outcome.seconds for outcome in outcomes)),
        str(sum(outcome.calls for outcome in outcomes)),
        f"{sum(outcome.tokens_saved for outcome in outcomes):,}",
        _dollars(sum((outcome.usd_saved for outcome in outcomes), Decimal(0))),
    ]


def _dollars(amount: Decimal) -> str:
    return f"${amount:.4f}"
