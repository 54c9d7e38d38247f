"""What was counted, read again: the rows of every process, and over them what this one has not written yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from aicache.core.tags import EVERYBODY
from aicache.ledger.counting import get_flusher
from aicache.ledger.counts import FIGURES, MINUTE, STATUSES
from aicache.ledger.flusher import Flusher
from aicache.ledger.process import Process
from aicache.ledger.rows import MONEY, NANO, WHOSE, row
from aicache.tenants import ONLY, tenant_digest

HOUR: Final = 60 * MINUTE
NEVER: Final = 2**62
# A process that has announced more than it wrote says every 1.5 s that it lives: see ``flusher.HEARTBEAT``.
UNSEEN: Final = 5.0
SERVED: Final = ("hit", "stale", "semantic", "coalesced")
FORMULA: Final = f"({' + '.join(SERVED)}) ÷ (those + miss)"
LABELS: Final = {"": "(nobody)", EVERYBODY: "(everybody)", tenant_digest(ONLY): "(the site)"}
SUMMED: Final = (*FIGURES, *MONEY)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one tenant, or of several. ``numbers``: by the names of ``FIGURES`` and ``MONEY``."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def __add__(self, other: Figures) -> Figures:
        return Figures({name: self[name] + other[name] for name in SUMMED})

    @property
    def calls(self) -> int:
        return sum(self[status] for status in STATUSES)

    @property
    def hit_rate(self) -> float | None:
        """From 0 to 1; None where nobody asked the cache. See ``FORMULA``."""
        served = sum(self[status] for status in SERVED)
        asked = served + self["miss"]
        return served / asked if asked > 0 else None

    @property
    def saved_usd(self) -> Decimal:
        return self["saved_nano_usd"] / NANO

    @property
    def net_usd(self) -> Decimal:
        """Less what writing the provider's prompt cache had cost: a repeat would have found it written."""
        return (self["saved_nano_usd"] - self["premium_nano_usd"]) / NANO


NOTHING: Final = Figures(dict.fromkeys(SUMMED, 0))


@dataclass(frozen=True, slots=True)
class Stats:
    """``tenants``: by what they are called, those with the most calls first. ``lost``: so many counts, at most, are
    missing in any figure, of processes that were killed. ``since``: unix seconds, None for ever."""

    tenants: Mapping[str, Figures]
    lost: int
    since: float | None

    @property
    def total(self) -> Figures:
        return sum(self.tenants.values(), NOTHING)


def read(using: str, *, since: float | None = None, tenant: str | None = None) -> Stats:
    """On this thread's connection. Raises what the database does.

    ``tenant``: only the one that is called so. Whole minutes are counted, and of what is older than 48 hours whole
    hours, the one of ``since`` among them.
    """
    since = _whole(since)
    flusher = get_flusher()
    found = _rows(using, flusher, None if tenant is None else _owner(tenant), since or 0)
    return Stats(_by_label(found), _lost(using, flusher.process, since), since)


def unwritten(*, since: float | None = None, tenant: str | None = None) -> Stats:
    """What this process knows without any database."""
    since = _whole(since)
    known = _known(get_flusher(), None if tenant is None else _owner(tenant), since or 0)
    return Stats(_by_label(known.values()), 0, since)


def _whole(since: float | None) -> float | None:
    return None if since is None else since // MINUTE * MINUTE


def _rows(using: str, flusher: Flusher, chosen: str | None, since: float) -> list[dict[str, Any]]:
    from aicache.models import CallCount

    # In this order: what is written between the two is in both, and the older one is taken, which is complete.
    known = _known(flusher, chosen, since)
    counted = CallCount.objects.using(using).filter(
        Q(minute__gte=since) | Q(process="", minute__gte=since // HOUR * HOUR)
    )
    if chosen is not None:
        counted = counted.filter(owner=chosen)
    mine = Q(process=flusher.process.id, minute__gte=min((minute for minute, _ in known), default=NEVER))
    sums = {name: Sum(name) for name in SUMMED}
    others = counted.exclude(mine).values("owner", *WHOSE).order_by().annotate(**sums)
    own = (written for written in counted.filter(mine).values() if (written["minute"], written["owner"]) not in known)
    return [*others, *own, *known.values()]


def _known(flusher: Flusher, chosen: str | None, since: float) -> dict[tuple[int, str], dict[str, Any]]:
    """What is in memory, as rows."""
    known = (row(cell, flusher.process.id) for cell in flusher.counts.known())
    chosen_ones = (found for found in known if found["minute"] >= since and chosen in (None, found["owner"]))
    return {(found["minute"], found["owner"]): found for found in chosen_ones}


def _by_label(rows: Iterable[Mapping[str, Any]]) -> dict[str, Figures]:
    numbers: dict[str, Counter[str]] = {}
    names: dict[str, str] = {}
    for found in rows:
        digest = found["owner"]
        names[digest] = LABELS.get(digest, found["tenant"])
        numbers.setdefault(digest, Counter()).update({name: int(found[name]) for name in SUMMED})
    called = Counter(names.values())
    labels = {digest: name if called[name] == 1 else f"{name} [{digest[:8]}]" for digest, name in names.items()}
    figures = {labels[digest]: Figures({**NOTHING.numbers, **counter}) for digest, counter in numbers.items()}
    return dict(sorted(figures.items(), key=lambda one: (-one[1].calls, one[0])))


def _owner(label: str) -> str:
    special = {called: digest for digest, called in LABELS.items()}
    return special[label] if label in special else tenant_digest(label)


def _lost(using: str, this: Process, since: float | None) -> int:
    """Asked anew each time: a process that merely stood still takes it back."""
    from aicache.models import CountingProcess

    behind = CountingProcess.objects.using(using).filter(announced__gt=F("flushed")).exclude(id=this.id)
    ended = []
    for found in behind.annotate(now=Now()):
        unseen = (found.now - found.seen_at).total_seconds()
        if since is not None and unseen > time.time() - since:
            continue
        if unseen > UNSEEN or Process(found.id, found.host, found.pid, found.started).is_gone:
            ended.append(found.id)
    # Read again: between the row and the look it may have written its last, and ended as it should.
    lost: int | None = behind.filter(id__in=ended).aggregate(lost=Sum(F("announced") - F("flushed")))["lost"]
    return lost or 0
