from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from textwrap import wrap
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from aicache.conf import get_settings
from aicache.ledger import rows, stats
from aicache.ledger.document import as_json
from aicache.ledger.figures import STATUSES
from aicache.ledger.length import seconds_of
from aicache.ledger.stats import FORMULA, Figures, Stats
from aicache.management import prompts

GAP: Final = "  "
BAR: Final = 10  # characters
COLUMNS: Final = 120  # where there is no terminal to be asked
Lines = list[list[str]]
EMPTY, FULL = "░", "█"


class Command(BaseCommand):
    help = (
        "Says what became of the calls of each tenant, and what the cache saved: of all processes, as of a second ago, "
        "and of this one as of now."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="T", help="only the one that is called so here")
        parser.add_argument("--since", metavar="24h", help="only of the last 90s, 15m, 24h or 7d")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, tenant: str | None, since: str | None, **options: Any) -> None:
        found = self._read(tenant, _began(since))
        if options["json"]:
            self.stdout.write(json.dumps(as_json(found), indent=2, ensure_ascii=False))
        if not found.tenants:
            said = f"No call {'' if tenant is None else f'of {tenant!r} '}was counted{_since(found)}."
            (self.stderr if options["json"] else self.stdout).write(said)
        elif not options["json"]:
            self._show(found)

    def _read(self, tenant: str | None, since: float | None) -> Stats:
        using = get_settings().database
        try:
            rows.find_place(using)
            return stats.read(using, since=since, tenant=tenant)
        except rows.NoPlace as trouble:
            known = stats.unwritten(since=since, tenant=tenant)
            if not known.tenants:
                raise CommandError(f"nothing is counted: {trouble}") from trouble
            self.stderr.write(f"This is what this process alone has counted: {trouble}", self.style.WARNING)
            return known
        except Exception as error:
            raise CommandError(f"the database {using!r} cannot be asked: {error}") from error

    def _show(self, found: Stats) -> None:
        columns = shutil.get_terminal_size((COLUMNS, 24)).columns
        head, body, total = _cells(found)
        turned = _turned(head, [*body, *total])
        if _width([*head, *body, *total]) > columns >= _width([*turned[0], *turned[1]]):
            head, body, total = *turned, []
        widths = _widths([*head, *body, *total])
        rule = "─" * _width([*head, *body, *total])
        self.stdout.write("All calls" if found.since is None else f"Calls{_since(found)}")
        self.stdout.write("")
        for line in head:
            self.stdout.write(self.style.MIGRATE_LABEL(_line(line, widths)))
        self.stdout.write(rule)
        for line in body:
            self.stdout.write(_line(line, widths))
        for line in total:
            self.stdout.write(f"{rule}\n{self.style.MIGRATE_LABEL(_line(line, widths))}")
        self._show_notes(_notes(found), columns)
        self._show_prompts(found, columns)
        if found.lost:
            lost = f"at most {found.lost:,} counts of killed processes are missing in any of these figures"
            self.stdout.write(
                self.style.WARNING(
                    f"\n{_note('lost', lost, columns)}" if found.prompts else _note("lost", lost, columns)
                )
            )

    def _show_prompts(self, found: Stats, columns: int) -> None:
        """What was done at the provider's prompt cache, where anything was."""
        if not found.prompts:
            return
        names = 2  # tenant and model
        head, body = prompts.cells(found)
        turned = _turned(head, body, names)
        if _width([*head, *body]) > columns >= _width([*turned[0], *turned[1]]):
            head, body, names = *turned, 1
        widths = _widths([*head, *body])
        self.stdout.write(f"\nAt the provider's prompt cache{_since(found)}")
        self.stdout.write("")
        for line in head:
            self.stdout.write(self.style.MIGRATE_LABEL(_line(line, widths, names)))
        self.stdout.write("─" * _width([*head, *body]))
        for line in body:
            self.stdout.write(_line(line, widths, names))
        self._show_notes(prompts.notes(found), columns)

    def _show_notes(self, notes: Iterator[tuple[str, str]], columns: int) -> None:
        self.stdout.write("")
        for name, text in notes:
            self.stdout.write(_note(name, text, columns))


def _cells(found: Stats) -> tuple[Lines, Lines, Lines]:
    """→ the lines of the head, one for each tenant, and one for all where they are several."""
    shown = [status for status in STATUSES if found.total[status]]
    head = [
        ["", "", *("" for _ in shown), "upstream", "", "tokens", "dollars", "dollars"],
        ["tenant", "calls", *shown, "calls", "hit rate", "saved", "saved", "net"],
    ]
    lines = [(name, figures) for name, figures in found.tenants.items()]
    total = [(f"{len(lines)} tenants", found.total)] if len(lines) > 1 else []
    return head, [_row(*line, shown) for line in lines], [_row(*line, shown) for line in total]


def _turned(head: Lines, body: Lines, names: int = 1) -> tuple[Lines, Lines]:
    """A line for each figure: for terminals that are too narrow for all of them side by side."""
    labels = [" ".join(filter(None, lines)) for lines in zip(*head, strict=True)]
    turned = [list(line) for line in zip(labels, *body, strict=True)]
    return turned[:names], turned[names:]


def _widths(lines: Lines) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Lines) -> int:
    widths = _widths(lines)
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _row(name: str, figures: Figures, statuses: list[str]) -> list[str]:
    numbers = [figures.calls, *(figures[status] for status in statuses), figures["upstream_calls"]]
    return [
        name,
        *(f"{number:,}" for number in numbers),
        _bar(figures.hit_rate),
        f"{figures['saved_tokens']:,}",
        f"${figures.saved_usd:,.4f}",
        f"${figures.net_usd:,.4f}",
    ]


def _bar(rate: float | None) -> str:
    if rate is None:
        return "–"
    full = round(rate * BAR)
    return f"{FULL * full}{EMPTY * (BAR - full)} {rate:>6.1%}"


def _line(cells: list[str], widths: list[int], names: int = 1) -> str:
    """``names``: so many cells are text, the rest figures."""
    sides = "<" * names + ">" * (len(cells) - names)
    aligned = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True))
    return GAP.join(aligned).rstrip()


def _note(name: str, text: str, columns: int) -> str:
    return "\n".join(wrap(text, columns, initial_indent=f"{name:<9} ", subsequent_indent=" " * 10))


def _notes(found: Stats) -> Iterator[tuple[str, str]]:
    """What the figures mean, and those that are not shown."""
    total = found.total
    yield "hit rate", FORMULA
    yield "net", "saved, less what writing the prompt cache had cost: a repeat would have found it written"
    if total["unpriced"]:
        yield "unpriced", f"{total['unpriced']:,} answers saved a call whose price is not known, and count as nothing"
    if none := [status for status in STATUSES if not total[status]]:
        yield "none", ", ".join(none)


def _since(found: Stats) -> str:
    if found.since is None:
        return ""
    began = datetime.fromtimestamp(found.since, timezone.get_current_timezone())
    return f" since {began:%Y-%m-%d %H:%M %Z}"


def _began(since: str | None) -> float | None:
    """Raises CommandError."""
    try:
        return None if since is None else time.time() - seconds_of(since)
    except ValueError as error:
        raise CommandError(str(error)) from error
