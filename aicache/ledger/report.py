"""What was counted in a period, as the dashboard shows it: a fixed number of queries, however many rows there are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import ceil
from operator import add
from typing import Any, Final

from django.db.models import F, Max, Q, QuerySet, Sum

from aicache.ledger.compaction import DAY, HOUR
from aicache.ledger.counts import MINUTE
from aicache.ledger.figures import LATE, SERVED, STATUSES
from aicache.ledger.hotspots import Kind
from aicache.ledger.place import OF_ALL, OF_OWNER, OF_PLACE
from aicache.ledger.rows import BUCKETS, HOTSPOTS
from aicache.ledger.stats import NOTHING, Figures, labels

SHOWN: Final = 200
"""Tenants, by their calls: a table that can be read, and sent every few seconds."""
SLOTS: Final = 12
"""Points of a tenant's trend, at most."""
DEAREST: Final = 8

OF_TENANTS: Final = (
    "miss",
    "upstream_calls",
    "stale",
    "stale_blocked",
    "checked",
    "wrong",
    "redundant_writes",
    "spent_nano_usd",
    "saved_nano_usd",
    "premium_nano_usd",
)


@dataclass(frozen=True, slots=True)
class Period:
    """The last ``seconds``, in points of ``step`` seconds. ``own_step``: of single tenants, whose hours go sooner. It
    begins with a whole one of these: else what is told of all tenants, and of each, would not be of the same time."""

    name: str
    seconds: int
    step: int
    own_step: int

    @property
    def number(self) -> int:
        """Of such."""
        return self.seconds // self.own_step


PERIODS: Final = {
    period.name: period
    for period in (
        Period("1h", HOUR, MINUTE, MINUTE),
        Period("24h", DAY, HOUR, HOUR),
        Period("7d", 7 * DAY, 3 * HOUR, DAY),
        Period("30d", 30 * DAY, DAY, DAY),
        Period("90d", 90 * DAY, DAY, DAY),
    )
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """``trend``: calls, in spans of equal length, the oldest first; the last is not over yet."""

    owner: str
    label: str
    calls: int
    served: int
    numbers: Mapping[str, int]
    trend: list[int]

    @property
    def hit_rate(self) -> float | None:
        asked = self.served + self.numbers["miss"]
        return self.served / asked if asked else None

    @property
    def net_nano_usd(self) -> int:
        return self.numbers["saved_nano_usd"] - self.numbers["premium_nano_usd"]


@dataclass(frozen=True, slots=True)
class Hotspot:
    """``owner`` and ``label`` of a tenant; ``told``: what people know it by; ``key``: of its last answer."""

    owner: str
    label: str
    told: str
    key: str
    times: int
    nano_usd: int


@dataclass(frozen=True)
class Report:
    """Of one period, and of some ``owners``, digests of tenants; None: of all, and of calls that are nobody's."""

    using: str
    period: Period
    owners: frozenset[str] | None = None
    now: float = field(default_factory=lambda: time.time())

    @property
    def step(self) -> int:
        return self.period.step if self.owners is None else self.period.own_step

    @property
    def begin(self) -> int:
        """Unix seconds of the first point. The last one is not over yet."""
        step = self.period.own_step
        return int(self.now) // step * step - (self.period.number - 1) * step

    def series(self) -> list[tuple[int, Figures]]:
        """All points, each with unix seconds of its beginning."""
        sums = {name: Sum(name) for name in BUCKETS.summed}
        point = F("start") - F("start") % self.step
        rows = self._by_policy() if self.owners is None else self._by_owner()
        found = rows.annotate(point=point).values("point").annotate(**sums)
        known = {row["point"]: Figures.of(row) for row in found}
        points = range(self.begin, int(self.now) + 1, self.step)
        return [(at, known.get(at, NOTHING)) for at in points]

    def by_policy_and_model(self) -> list[tuple[str, str, Figures]]:
        sums = {name: Sum(name) for name in BUCKETS.summed}
        found = self._by_policy().values("policy", "model").annotate(**sums)
        return [(row["policy"], row["model"], Figures.of(row)) for row in found]

    def tenants(self) -> list[Tenant]:
        """Those with the most calls, as many as are SHOWN."""
        # In this order: a sum that is called as its column stands in the way of the column.
        sums: dict[str, Any] = {"calls": Sum(_sum_of(STATUSES)), "served": Sum(_sum_of(SERVED))}
        sums |= {name: Sum(name) for name in OF_TENANTS}
        whole = ceil(self.period.number / SLOTS)  # rows may be as long as one of the period's steps
        slots = ceil(self.period.number / whole)
        slot = (F("start") - self.begin) / (whole * self.period.own_step)
        # All at once, as it is the reading that takes time.
        found = self._by_owner().annotate(slot=slot).values("owner", "slot").annotate(tenant=Max("tenant"), **sums)
        parts: dict[str, list[Any]] = {}
        for row in found:
            parts.setdefault(row["owner"], []).append(row)
        called = labels({"owner": owner, "tenant": rows[0]["tenant"]} for owner, rows in parts.items())
        tenants = [_tenant(owner, called[owner], rows, slots) for owner, rows in parts.items()]
        return sorted(tenants, key=lambda tenant: (-tenant.calls, tenant.label))[:SHOWN]

    def hotspots(self, kind: Kind) -> list[Hotspot]:
        """The DEAREST."""
        found = HOTSPOTS.rows.objects.using(self.using).filter(kind=kind, start__gte=self.begin)
        if self.owners is not None:
            found = found.filter(owner__in=self.owners)
        sums = {name: Sum(name) for name in HOTSPOTS.summed}
        told = {name: Max(name) for name in ("tenant", "label", "key")}
        rows = list(
            found.values("owner", "digest").annotate(**sums, **told).order_by("-nano_usd", "-times", "digest")[:DEAREST]
        )
        called = labels(rows)
        return [
            Hotspot(row["owner"], called[row["owner"]], row["label"], row["key"], row["times"], row["nano_usd"])
            for row in rows
        ]

    def _by_policy(self) -> QuerySet[Any]:
        """Rows that add up to all that is to be counted, each of one model and policy."""
        return self._rows(Q(total=OF_ALL) if self.owners is None else Q(total=OF_PLACE))

    def _by_owner(self) -> QuerySet[Any]:
        """Likewise, each of one owner."""
        return self._rows(Q(total=OF_OWNER))

    def _rows(self, sums: Q) -> QuerySet[Any]:
        """Minutes have not been added up yet. None of a clock that is ahead, whose time is no point's."""
        recent = BUCKETS.rows.objects.using(self.using).filter(start__range=(self.begin, int(self.now))).order_by()
        found: QuerySet[Any] = recent.filter(Q(span=MINUTE) | sums)
        return found if self.owners is None else found.filter(owner__in=self.owners)


def _tenant(owner: str, label: str, parts: list[Any], slots: int) -> Tenant:
    trend = [0] * slots
    for part in parts:
        trend[int(part["slot"])] += part["calls"]
    calls, served, *numbers = (sum(part[name] for part in parts) for name in ("calls", "served", *OF_TENANTS))
    return Tenant(owner, label, calls, served, dict(zip(OF_TENANTS, numbers, strict=True)), trend)


def _sum_of(names: Iterable[str]) -> Any:
    return reduce(add, (F(name) for name in names))


def lateness(figures: Figures) -> list[tuple[float, int]]:
    """How many of the answers that had expired would have been there, had each lived for so many seconds longer."""
    return [(seconds, figures[name]) for name, seconds in LATE.items()]
