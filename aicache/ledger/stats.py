"""What was counted, read again: the rows of every process, and over them what this one has not written yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any, Final

from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from aicache.ledger.compaction import DAY, HOUR
from aicache.ledger.counting import get_flusher
from aicache.ledger.counts import MINUTE
from aicache.ledger.figures import MISSED, PROMPTS, SERVED, STATUSES, SUMMED
from aicache.ledger.flusher import Flusher
from aicache.ledger.place import LABELS, OF_ALL, OF_PLACE
from aicache.ledger.process import Process
from aicache.ledger.rows import BUCKETS, NANO_IN_DOLLAR, row
from aicache.tenants import tenant_digest

NEVER: Final = 2**62  # a minute
# A process that has announced more than it wrote says every 1.5 s that it lives: see ``flusher.HEARTBEAT``.
UNSEEN: Final = 5.0
FORMULA: Final = f"({' + '.join(SERVED)}) ÷ (those + miss)"
BEATING: Final = (*STATUSES, "upstream_calls", "upstream_tokens", "stale_blocked", "checked", "wrong")
"""Of which one at least is another one when anything was counted that people look for."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one tenant, one model, or of several. ``numbers``: by the names of ``figures.SUMMED``."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def __add__(self, other: Figures) -> Figures:
        return Figures({name: number + other[name] for name, number in self.numbers.items()})

    @classmethod
    def of(cls, row: Row) -> Figures:
        return cls({name: int(row[name] or 0) for name in SUMMED})

    def usd(self, name: str) -> Decimal:
        """Dollars, by a name of ``figures.MONEY``."""
        return self[f"{name}_nano_usd"] / NANO_IN_DOLLAR

    @property
    def calls(self) -> int:
        return sum(self[status] for status in STATUSES)

    @property
    def served(self) -> int:
        return sum(self[status] for status in SERVED)

    @property
    def hit_rate(self) -> float | None:
        """From 0 to 1; None where nobody asked the cache. See ``FORMULA``."""
        asked = self.served + self["miss"]
        return self.served / asked if asked > 0 else None

    @property
    def saved_usd(self) -> Decimal:
        return self.usd("saved")

    @property
    def net_usd(self) -> Decimal:
        """Less what writing the provider's prompt cache had cost: a repeat would have found it written."""
        return self.usd("saved") - self.usd("premium")

    @property
    def prompt_net_usd(self) -> Decimal:
        """What waiting at the prompt-cache gate has saved, less what was written twice all the same."""
        return self.usd("gate") - self.usd("redundant")

    @property
    def has_prompts(self) -> bool:
        """Whether anything was done at the provider's prompt cache."""
        return any(self[name] for name in (*PROMPTS, "redundant_nano_usd", "gate_nano_usd"))

    @property
    def missed(self) -> dict[str, int]:
        """How often the provider said why it found no more of a prefix, by its word."""
        return {reason: self[name] for reason, name in MISSED.items() if self[name]}


NOTHING: Final = Figures(dict.fromkeys(SUMMED, 0))


@dataclass(frozen=True, slots=True)
class Stats:
    """``tenants``: by what they are called, those with the most calls first; ``models``: likewise, by model. ``lost``:
    so many counts, at most, are missing in any figure, of processes that were killed. ``since``: unix seconds, None for
    ever."""

    tenants: Mapping[str, Figures]
    models: Mapping[str, Mapping[str, Figures]]
    lost: int
    since: float | None

    @property
    def total(self) -> Figures:
        return sum(self.tenants.values(), NOTHING)

    @property
    def prompts(self) -> dict[str, dict[str, Figures]]:
        """Those of ``models`` that did anything at the provider's prompt cache."""
        found = {
            label: {model: figures for model, figures in models.items() if figures.has_prompts}
            for label, models in self.models.items()
        }
        return {label: models for label, models in found.items() if models}


def read(
    using: str, *, since: float | None = None, tenant: str | None = None, owners: frozenset[str] | None = None
) -> Stats:
    """On this thread's connection. Raises what the database does.

    ``tenant``: only the one that is called so; ``owners``: only of these, which are digests. Whole minutes are counted,
    and of what is older whole hours or days, the one of ``since`` among them.
    """
    since, flusher = _whole(since), get_flusher()
    process = flusher.process
    chosen = owners if tenant is None else _one(tenant, owners)
    # In this order: what is written between the two is in both, and the older one is taken, which is complete.
    known = _known(flusher, process, chosen, since or 0)
    return _stats(_rows(using, process, chosen, since, known), lost(using, since), since)


def unwritten(*, since: float | None = None, tenant: str | None = None) -> Stats:
    """What this process knows without any database."""
    since, flusher = _whole(since), get_flusher()
    chosen = None if tenant is None else _one(tenant)
    return _stats(_known(flusher, flusher.process, chosen, since or 0), 0, since)


def by_model(using: str) -> dict[str, Figures]:
    """Of all tenants and of all time. Raises what the database does."""
    sums = {name: Sum(name) for name in BUCKETS.summed}
    counted = BUCKETS.rows.objects.using(using).filter(Q(total=OF_ALL) | Q(span=MINUTE)).order_by()
    return {row["model"]: Figures.of(row) for row in counted.values("model").annotate(**sums)}


def in_flight(using: str, owners: Collection[str] | None = None) -> int:
    """Calls that are under way in any process that is there, of all owners, or of those with these digests: as of a
    second ago, and of this process as of now. On this thread's connection. Raises what the database does."""
    from aicache.models import CountingProcess

    flusher = get_flusher()
    found = [flusher.counts.under_way()]
    others = CountingProcess.objects.using(using).exclude(id=flusher.process.id).exclude(under_way={})
    for process in others.filter(seen_at__gt=Now() - timedelta(seconds=UNSEEN)):
        if not Process(process.id, process.host, process.pid, process.started).is_gone:
            found.append(process.under_way)
    return sum(number for one in found for owner, number in one.items() if owners is None or owner in owners)


def within(since: float | None) -> Q:
    """Rows of that time, each of whose whole span counts."""
    if since is None:
        return Q()
    spans = (MINUTE, HOUR, DAY)
    several = [Q(span=span, start__gte=int(since) // span * span) for span in spans]
    return several[0] | several[1] | several[2]


def labels(found: Iterable[Row]) -> dict[str, str]:
    """What each owner is called, by digest."""
    names = {str(row["owner"]): str(LABELS.get(row["owner"], row["tenant"])) for row in found}
    called = Counter(names.values())
    return {digest: name if called[name] == 1 else f"{name} [{digest[:8]}]" for digest, name in names.items()}


def owner_called(label: str) -> str:
    """Its digest."""
    special = {called: digest for digest, called in LABELS.items()}
    return special[label] if label in special else tenant_digest(label)


def _one(label: str, owners: frozenset[str] | None = None) -> frozenset[str]:
    """Who is called so, if it is one of these."""
    owner = owner_called(label)
    return frozenset({owner} if owners is None or owner in owners else ())


def _whole(since: float | None) -> float | None:
    return None if since is None else since // MINUTE * MINUTE


def _rows(
    using: str, process: Process, chosen: frozenset[str] | None, since: float | None, known: list[Row]
) -> list[Row]:
    counted = BUCKETS.rows.objects.using(using).filter(within(since), total=OF_PLACE)
    if chosen is not None:
        counted = counted.filter(owner__in=chosen)
    mine = Q(process=process.id, start__gte=min((row["start"] for row in known), default=NEVER))
    sums = {name: Sum(name) for name in BUCKETS.summed}
    others = counted.exclude(mine).values("owner", "model", *BUCKETS.told).order_by().annotate(**sums)
    places = {BUCKETS.place(row) for row in known}
    own = (written for written in counted.filter(mine).values() if BUCKETS.place(written) not in places)
    return [*others, *own, *known]


def _known(flusher: Flusher, process: Process, chosen: frozenset[str] | None, since: float) -> list[Row]:
    """What is in memory, as rows. Of one cell the last is the whole."""
    found = (row(cell, process.id) for cell in flusher.counts.known())
    cells = [one for one in found if one["start"] >= since and (chosen is None or one["owner"] in chosen)]
    return list({BUCKETS.place(one): one for one in cells}.values())


def _stats(found: list[Row], lost: int, since: float | None) -> Stats:
    called = labels(found)
    models: dict[str, dict[str, Figures]] = {}
    for one in found:
        of = models.setdefault(called[one["owner"]], {})
        of[one["model"]] = of.get(one["model"], NOTHING) + Figures.of(one)
    tenants = {label: sum(of.values(), NOTHING) for label, of in models.items()}
    tenants = dict(sorted(tenants.items(), key=lambda one: (-one[1].calls, one[0])))
    return Stats(tenants, {label: dict(sorted(models[label].items())) for label in tenants}, lost, since)


def pulse(using: str, owners: Collection[str] | None = None) -> tuple[int, int]:
    """→ a number that is another one when something was counted, and how many calls are ``in_flight``: of all owners,
    or of those with these digests, who are told nothing by it of the others."""
    from aicache.models import CountingProcess

    if owners is None:
        found = CountingProcess.objects.using(using).aggregate(counted=Sum("flushed"))
    else:
        recent = BUCKETS.rows.objects.using(using).filter(start__gte=int(time.time()) - HOUR, span=MINUTE)
        own = recent.filter(total=OF_PLACE, owner__in=owners)
        found = own.aggregate(counted=Sum(reduce(add, map(F, BEATING))))
    return found["counted"] or 0, in_flight(using, owners)


def lost(using: str, since: float | None = None) -> int:
    """So many counts, at most, are missing in any figure. Asked anew each time: a process that merely stood still takes
    it back."""
    from aicache.models import CountingProcess

    this = get_flusher().process
    behind = CountingProcess.objects.using(using).filter(announced__gt=F("flushed")).exclude(id=this.id)
    ended = []
    for found in behind.annotate(now=Now()):
        unseen = (found.now - found.seen_at).total_seconds()
        if since is not None and unseen > time.time() - since:
            continue
        if unseen > UNSEEN or Process(found.id, found.host, found.pid, found.started).is_gone:
            ended.append(found.id)
    # Read again: between the row and the look it may have written its last, and ended as it should.
    found_lost: int | None = behind.filter(id__in=ended).aggregate(lost=Sum(F("announced") - F("flushed")))["lost"]
    return found_lost or 0
