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
from aicache.ledger.counts import MINUTE, STATUSES
from aicache.ledger.flusher import Flusher
from aicache.ledger.process import Process
from aicache.ledger.prompts import MISSED
from aicache.ledger.rows import CALLS, NANO, PROMPTS, WHOSE, Table, prompt_rows, row
from aicache.tenants import ONLY, tenant_digest

HOUR: Final = 60 * MINUTE
NEVER: Final = 2**62
# A process that has announced more than it wrote says every 1.5 s that it lives: see ``flusher.HEARTBEAT``.
UNSEEN: Final = 5.0
SERVED: Final = ("hit", "stale", "semantic", "coalesced")
FORMULA: Final = f"({' + '.join(SERVED)}) ÷ (those + miss)"
LABELS: Final[dict[str, str]] = {"": "(nobody)", EVERYBODY: "(everybody)", tenant_digest(ONLY): "(the site)"}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one tenant, or of several. ``numbers``: by the names of ``FIGURES`` and ``MONEY``."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def __add__(self, other: Figures) -> Figures:
        return Figures({name: self[name] + other[name] for name in CALLS.summed})

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


NOTHING: Final = Figures(dict.fromkeys(CALLS.summed, 0))


@dataclass(frozen=True, slots=True)
class PromptStats:
    """At the provider's prompt cache, of one tenant and model, or of several. ``numbers``: by the names of
    ``PROMPT_FIGURES`` and ``PROMPT_MONEY``."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.numbers[name]

    def __add__(self, other: PromptStats) -> PromptStats:
        return PromptStats({name: self[name] + other[name] for name in PROMPTS.summed})

    @property
    def waited(self) -> float:
        """Seconds."""
        return self["waited_ms"] / 1000

    @property
    def redundant_usd(self) -> Decimal:
        """What writing cost that was no more than reading, had it been known to live."""
        return self["redundant_nano_usd"] / NANO

    @property
    def gate_usd(self) -> Decimal:
        """What waiting has saved, less what was paid for it."""
        return self["gate_nano_usd"] / NANO

    @property
    def net_usd(self) -> Decimal:
        """What waiting has saved, less what was written twice all the same."""
        return self.gate_usd - self.redundant_usd

    @property
    def missed(self) -> dict[str, int]:
        """How often the provider said why it found no more, by its word."""
        return {reason: self[name] for reason, name in MISSED.items() if self[name]}


NOTHING_PROMPTED: Final = PromptStats(dict.fromkeys(PROMPTS.summed, 0))


@dataclass(frozen=True, slots=True)
class Stats:
    """``tenants``: by what they are called, those with the most calls first. ``prompts``: likewise, by model. ``lost``:
    so many counts, at most, are missing in any figure, of processes that were killed. ``since``: unix seconds, None for
    ever."""

    tenants: Mapping[str, Figures]
    prompts: Mapping[str, Mapping[str, PromptStats]]
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
    since, flusher = _whole(since), get_flusher()
    chosen = None if tenant is None else _owner(tenant)
    # In this order: what is written between the two is in both, and the older one is taken, which is complete.
    known = _known(flusher, chosen, since or 0)
    calls = _rows(CALLS, using, flusher, chosen, since or 0, known.calls)
    prompts = _rows(PROMPTS, using, flusher, chosen, since or 0, known.prompts)
    return _stats(calls, prompts, _lost(using, flusher.process, since), since)


def unwritten(*, since: float | None = None, tenant: str | None = None) -> Stats:
    """What this process knows without any database."""
    since = _whole(since)
    known = _known(get_flusher(), None if tenant is None else _owner(tenant), since or 0)
    return _stats(known.calls, known.prompts, 0, since)


def _whole(since: float | None) -> float | None:
    return None if since is None else since // MINUTE * MINUTE


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Known:
    calls: list[Row]
    prompts: list[Row]


def _rows(table: Table, using: str, flusher: Flusher, chosen: str | None, since: float, known: list[Row]) -> list[Row]:
    counted = table.rows.objects.using(using).filter(
        Q(minute__gte=since) | Q(process="", minute__gte=since // HOUR * HOUR)
    )
    if chosen is not None:
        counted = counted.filter(owner=chosen)
    mine = Q(process=flusher.process.id, minute__gte=min((row["minute"] for row in known), default=NEVER))
    sums = {name: Sum(name) for name in table.summed}
    others = counted.exclude(mine).values(*table.whose, *WHOSE).order_by().annotate(**sums)
    places = {table.place(row) for row in known}
    own = (written for written in counted.filter(mine).values() if table.place(written) not in places)
    return [*others, *own, *known]


def _known(flusher: Flusher, chosen: str | None, since: float) -> _Known:
    """What is in memory, as rows. Of one cell the last is the whole."""
    calls, prompts = {}, {}
    for cell in flusher.counts.known():
        found = row(cell, flusher.process.id)
        if found["minute"] < since or chosen not in (None, found["owner"]):
            continue
        calls[CALLS.place(found)] = found
        prompts.update({PROMPTS.place(one): one for one in prompt_rows(cell, flusher.process.id)})
    return _Known([*calls.values()], [*prompts.values()])


def _stats(calls: list[Row], prompts: list[Row], lost: int, since: float | None) -> Stats:
    labels = _labels([*calls, *prompts])
    numbers: dict[str, Counter[str]] = {}
    for found in calls:
        numbers.setdefault(labels[found["owner"]], Counter()).update({name: int(found[name]) for name in CALLS.summed})
    figures = {label: Figures({**NOTHING.numbers, **counter}) for label, counter in numbers.items()}
    prompted: dict[str, dict[str, PromptStats]] = {}
    for found in prompts:
        models = prompted.setdefault(labels[found["owner"]], {})
        own = PromptStats({name: int(found[name]) for name in PROMPTS.summed})
        models[found["model"]] = models.get(found["model"], NOTHING_PROMPTED) + own
        figures.setdefault(labels[found["owner"]], NOTHING)
    figures = dict(sorted(figures.items(), key=lambda one: (-one[1].calls, one[0])))
    models_of = {label: dict(sorted(prompted[label].items())) for label in figures if label in prompted}
    return Stats(figures, models_of, lost, since)


def _labels(found: Iterable[Row]) -> dict[str, str]:
    """What each digest is called."""
    names = {str(row["owner"]): str(LABELS.get(row["owner"], row["tenant"])) for row in found}
    called = Counter(names.values())
    return {digest: name if called[name] == 1 else f"{name} [{digest[:8]}]" for digest, name in names.items()}


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
