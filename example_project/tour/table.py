"""The table at the end of the tour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import Final, NamedTuple

from example_project.helpcentre.card import duration
from example_project.tour.records import Outcome
from example_project.tour.step import counted
from example_project.tour.terminal import Terminal

GAP: Final = "  "
MARGIN: Final = "  "
INDENT: Final = "    "

MEANINGS: Final = {
    "miss": "Claude was called, and the answer kept",
    "hit": "the kept answer, no call",
    "coalesced": "waited for a call that was under way, and shared its answer",
    "bypass": "the cache was left out",
    "degraded": "Redis was away, so Claude was called without the cache",
    "error": "no answer: Claude failed, or the idempotency key was another's",
    "killed": "the process died and got no answer",
}


class Row(NamedTuple):
    """``what`` was asked, what it ``became``, and the rest in figures."""

    what: str
    became: str
    time: str
    calls: str
    tokens: str
    dollars: str


HEAD: Final = (
    Row("", "", "", "Calls", "Tokens", "Dollars"),
    Row("What was asked", "What the cache did", "Time", "to Claude", "saved", "saved"),
)


class Layout:
    """What the cache did stands beside what was asked, or where the terminal is too narrow for that, below it."""

    def __init__(self, rows: Sequence[Row], columns: int) -> None:
        self._columns = columns
        self._widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        self._is_wide = len(MARGIN) + self._width(self._widths) <= columns
        if not self._is_wide:
            del self._widths[1]
        self.rule = MARGIN + "─" * self._width(self._widths)

    def lines(self, row: Row) -> Iterator[str]:
        """Its first has no margin: a mark may stand there."""
        cells = list(row)
        below = "" if self._is_wide else cells.pop(1)
        names = len(cells) - 4
        aligned = (f"{cell:{'<' if at < names else '>'}{self._widths[at]}}" for at, cell in enumerate(cells))
        yield GAP.join(aligned).rstrip()
        if below:
            yield INDENT + below

    def text(self, text: str) -> Iterator[str]:
        yield from wrap(text, self._columns, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False)

    @staticmethod
    def _width(widths: Sequence[int]) -> int:
        return sum(widths) + len(GAP) * (len(widths) - 1)


def table(outcomes: Sequence[Outcome], terminal: Terminal) -> Iterator[str]:
    """Its lines. Under each row stands what was promised, and how it was broken, if it was."""
    rows = [_row(outcome) for outcome in outcomes]
    total = _total(outcomes)
    layout = Layout([*HEAD, *rows, total], terminal.columns)
    for head in HEAD:
        yield from _bold(layout, head, terminal)
    yield layout.rule
    for outcome, row in zip(outcomes, rows, strict=True):
        first, *below = layout.lines(row)
        yield f"{terminal.mark(not outcome.wrong)} {first}"
        yield from below
        note = f" ({outcome.run.note})" if outcome.run.note else ""
        yield from map(terminal.dim, layout.text(outcome.promise + note))
        for complaint in outcome.wrong:
            yield from map(terminal.red, layout.text(f"Not so: {complaint}."))
    yield layout.rule
    yield from _bold(layout, total, terminal)
    yield ""
    shown = {status for outcome in outcomes for status in outcome.statuses}
    shown |= {"killed" for outcome in outcomes if outcome.run.lost}
    for status, meaning in MEANINGS.items():
        if status in shown:
            yield terminal.dim(f"{MARGIN}{status:9}  {meaning}")


def _bold(layout: Layout, row: Row, terminal: Terminal) -> Iterator[str]:
    first, *below = layout.lines(row)
    yield from map(terminal.bold, (MARGIN + first, *below))


def _row(outcome: Outcome) -> Row:
    lost = f", {outcome.run.lost} killed" if outcome.run.lost else ""
    return Row(
        outcome.name,
        counted(outcome.statuses) + lost if outcome.statuses or lost else "",
        duration(outcome.seconds),
        str(outcome.calls),
        f"{outcome.tokens_saved:,}",
        _dollars(outcome.usd_saved),
    )


def _total(outcomes: Sequence[Outcome]) -> Row:
    asked = sum(len(outcome.run.seen) + outcome.run.lost for outcome in outcomes)
    for_free = sum(bool(seen.tokens_saved) for outcome in outcomes for seen in outcome.run.seen)
    return Row(
        f"In all, {asked} questions",
        f"{for_free} answered without a call",
        duration(sum(outcome.seconds for outcome in outcomes)),
        str(sum(outcome.calls for outcome in outcomes)),
        f"{sum(outcome.tokens_saved for outcome in outcomes):,}",
        _dollars(sum((outcome.usd_saved for outcome in outcomes), Decimal(0))),
    )


def _dollars(amount: Decimal) -> str:
    return f"${amount:.4f}"
