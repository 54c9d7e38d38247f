"""Rows of the dashboard's tables, as a page or a spreadsheet shows them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.http import HttpResponse
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from aicache.admin.figures import NANO, number, percent, seconds, usd
from aicache.admin.nameless import called
from aicache.ledger.compaction import DAY
from aicache.ledger.histogram import Histogram
from aicache.ledger.report import Tenant
from aicache.ledger.stats import Figures

FORMULA: Final = re.compile(r"[\t\r\n]|\s*[=+\-@|%＝＋－＠]")
"""How a cell begins that a spreadsheet would compute; a Japanese one does so with wide signs too."""


@dataclass(frozen=True, slots=True)
class Cell:
    """``value``: what it is sorted by, and exported as; None where there is none."""

    shown: str
    value: Any


@dataclass(frozen=True, slots=True)
class Line:
    tenant: Tenant
    cells: Sequence[Cell]
    points: str  # of the trend's line, in a box of 100 by 24

    @property
    def called(self) -> str:
        return called(self.tenant.label)

    @property
    def trend(self) -> str:
        """In words."""
        return ", ".join(number(calls) for calls in self.tenant.trend)


def heads() -> list[str]:
    return [
        _("Calls"),
        _("Hit rate"),
        _("Saved, net"),
        _("Calls to Claude"),
        _("Spent"),
        _("Served stale"),
        _("Stale blocked"),
        _("Wrong"),
        _("Prefixes written twice"),
    ]


def line(tenant: Tenant) -> Line:
    found = tenant.numbers
    rate = tenant.hit_rate
    cells = [
        Cell(number(tenant.calls), tenant.calls),
        Cell(percent(rate), None if rate is None else round(rate, 4)),
        _money(tenant.net_nano_usd),
        Cell(number(found["upstream_calls"]), found["upstream_calls"]),
        _money(found["spent_nano_usd"]),
        *(Cell(number(found[name]), found[name]) for name in ("stale", "stale_blocked")),
        Cell(
            f"{number(found['wrong'])} / {number(found['checked'])}" if found["checked"] else "–",
            found["wrong"],
        ),
        Cell(number(found["redundant_writes"]), found["redundant_writes"]),
    ]
    return Line(tenant, cells, _points(tenant.trend))


@dataclass(frozen=True, slots=True)
class Point:
    at: str
    cells: Sequence[str]


def point_heads() -> list[str]:
    return [
        _("Calls"),
        _("Served"),
        _("Misses"),
        _("Hit rate"),
        _("Half of the hits"),
        _("Half of Claude's"),
        _("Saved, net"),
        _("Spent"),
    ]


def point(at: int, step: int, found: Figures) -> Point:
    began = datetime.fromtimestamp(at, UTC)
    hits, upstream = Histogram.of_hits(found.numbers), Histogram.of_upstream(found.numbers)
    cells = [
        *(number(value) for value in (found.calls, found.served, found["miss"])),
        percent(found.hit_rate),
        *(seconds(times.quantile(0.5)) for times in (hits, upstream)),
        usd(found["saved_nano_usd"] - found["premium_nano_usd"]),
        usd(found["spent_nano_usd"]),
    ]
    return Point(date_format(began, "SHORT_DATE_FORMAT" if step >= DAY else "SHORT_DATETIME_FORMAT"), cells)


def as_csv(name: str, lines: Iterable[Line]) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    response.write("\ufeff")  # without it a spreadsheet takes it for another encoding
    writer = csv.writer(response)
    writer.writerow(plain(head) for head in (_("Tenant"), *heads()))
    for one in lines:
        writer.writerow(plain(value) for value in (one.called, *(cell.value for cell in one.cells)))
    return response


def plain(value: Any) -> Any:
    """No spreadsheet takes it for a formula, and none has to know of exponents."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    return value


def _money(nano: int) -> Cell:
    return Cell(usd(nano), nano / NANO)


def _points(trend: Sequence[int]) -> str:
    most = max(trend, default=0) or 1
    width = 100 / max(len(trend) - 1, 1)
    return " ".join(f"{at * width:.1f},{22 - 20 * max(calls, 0) / most:.1f}" for at, calls in enumerate(trend))
