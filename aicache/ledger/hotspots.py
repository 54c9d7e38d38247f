"""What costs most: questions that are paid for, tags whose death costs answers, prefixes that are written twice.

Noted in memory, written now and then. Whoever is dear is remembered; what is forgotten is cheap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from decimal import Decimal
from math import inf
from typing import Any, Final, Literal

from aicache.core.tags import digest
from aicache.ledger.place import Place, label, whose

Kind = Literal["miss", "tag", "prefix"]

HOUR: Final = 3600
# So many of each kind in an hour; of more the cheaper half is forgotten.
MOST: Final = 400


@dataclass(slots=True, eq=False)
class Spot:
    """``hour``: unix seconds of its beginning. Whole figures, so that it may be written twice."""

    hour: int
    kind: Kind
    name: str
    place: Place
    label: str
    key: str = ""
    times: int = 0
    usd: Decimal = Decimal(0)
    is_forgotten: bool = False

    def row(self, process: str) -> dict[str, Any]:
        return {
            "process": process,
            "span": HOUR,
            "start": self.hour,
            **whose(self.place.tenant),
            "kind": self.kind,
            "digest": digest(self.kind, self.name),
            "label": label(self.label),
            "key": self.key,
            "times": self.times,
            "nano_usd": round(self.usd * 10**9),
        }


class Hotspots:
    """Nothing in here does I/O or waits; the caller sees to it that one thread at a time is in here."""

    def __init__(self) -> None:
        self._hour = 0
        self._known: dict[Kind, dict[tuple[Any, str], Spot]] = {}
        self._changed: dict[Spot, None] = {}
        self._taken: list[Spot] = []

    @property
    def unsettled(self) -> float:
        """The hour from which on those may still change that were noted before this one."""
        return min((spot.hour for spot in (*self._changed, *self._taken)), default=inf)

    def note(self, kind: Kind, place: Place, name: str, usd: Decimal, *, told: str = "", key: str = "") -> None:
        """``name``: what is the same whenever it costs again. ``told``: what people know it by."""
        hour = int(time.time()) // HOUR * HOUR
        if hour > self._hour:
            self._hour, self._known = hour, {}
            # While the database is away they must not take more and more memory.
            self._changed = {spot: None for spot in self._changed if spot.hour >= hour - HOUR}
        known, at = self._known.setdefault(kind, {}), (place.tenant, name)
        spot = known.get(at)
        if spot is None:
            if len(known) >= MOST:
                self._forget_half(known)
            spot = known[at] = Spot(self._hour, kind, name, place, told)
        spot.times += 1
        spot.usd += usd
        spot.key = key or spot.key
        self._changed[spot] = None

    def take(self) -> list[Spot]:
        """Those that changed since, to be written."""
        self._taken, self._changed = list(self._changed), {}
        return [replace(spot) for spot in self._taken]

    def written(self) -> None:
        """All that was taken."""
        self._taken = []

    def not_written(self) -> None:
        """Not all that was taken."""
        recent = [spot for spot in self._taken if spot.hour >= self._hour - HOUR and not spot.is_forgotten]
        self._changed = {**dict.fromkeys(recent), **self._changed}
        self._taken = []

    def let_go(self) -> None:
        """All: what may be written is another process's from now on."""
        self._known, self._changed, self._taken = {}, {}, []

    def _forget_half(self, known: dict[tuple[Any, str], Spot]) -> None:
        for at in sorted(known, key=lambda at: (known[at].usd, known[at].times))[: MOST // 2]:
            forgotten = known.pop(at)
            forgotten.is_forgotten = True  # whatever comes in its place has its row
            self._changed.pop(forgotten, None)
