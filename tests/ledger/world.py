"""Processes that count, a database and a clock, each moved step by step: what comes of any order of things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from django.db import DatabaseError
from django.db.models import F

from aicache.core.callinfo import CallInfo
from aicache.core.usage import PromptUse
from aicache.ledger import compaction, counts, flusher, hotspots, request, rows, stats
from aicache.ledger.cell import Cell
from aicache.ledger.flusher import Flusher
from aicache.ledger.place import OF_ALL, OF_OWNER, OF_PLACE, Place
from aicache.ledger.prices import Price
from aicache.models import CountingProcess, Hotspot, MetricBucket

TIMED = (counts, flusher, hotspots, request, compaction, stats)
BEGINNING = 20_000 * 86_400.0 + 11 * 3600 + 2400  # not long before an hour ends
FOR = CallInfo("hit", saved_usd=Decimal("0.25"), saved_tokens=3)
PLACE = ("process", "span", "start", "total", "owner", "model", "policy")
WATCHED = ("hit", "miss", "error", "unscoped", "upstream_calls", "upstream_tokens", "reads", "checked", "wrong")
Sums = dict[str, int]
Breaks = tuple[int, bool] | None
FIGURES = 99


def summed(found: Iterable[dict[str, Any]]) -> Sums:
    sums = dict.fromkeys(WATCHED, 0)
    for row in found:
        for name in WATCHED:
            sums[name] += row[name]
    return sums


def held() -> Flusher:
    """One that starts no thread: it writes when it is told to, and what another thread wrote would be in a database of
    that thread's own."""
    made = Flusher()
    made._is_held = True
    return made


@dataclass(eq=False)
class Worker:
    """A process. ``failed``: calls of it that may be tried again. ``out``: requests that are under way."""

    flusher: Flusher = field(default_factory=held)
    failed: list[tuple[str, Place]] = field(default_factory=list)
    out: list[Any] = field(default_factory=list)
    number: int = 0

    @property
    def row(self) -> CountingProcess | None:
        return CountingProcess.objects.filter(id=self.flusher.process.id).first()

    def call(self) -> str:
        self.number += 1
        return str(self.number)


class World:
    """``truth``: what was counted. ``workers``: those that live."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self.truth: Counter[str] = Counter()
        self.untold = 0
        self.workers = [Worker(), Worker()]
        self.breaks_at: Breaks = None
        self.meanwhile: list[Callable[[], None]] = []
        for table in (MetricBucket, Hotspot, CountingProcess):
            table.objects.all().delete()

    # What may happen

    def count(self, worker: Worker, place: Place, what: str) -> None:
        on = worker.flusher.counts
        match what:
            case "hit" | "miss" | "unscoped":
                call = worker.call()
                on.began(call, place)
                info = FOR if what == "hit" else CallInfo(what)  # type: ignore[arg-type]
                on.ended(call, place, info, None, "", retried=False)
                self.truth[what] += 1
            case "fail":
                worker.failed.append((call := worker.call(), place))
                on.ended(call, place, CallInfo("error"), None, "", retried=False)
                self.truth["error"] += 1
            case "retry" if worker.failed:
                call, _ = worker.failed.pop(0)
                was_known = call in on._failed
                on.ended(call, place, CallInfo("miss"), None, "", retried=True)
                # Of one that failed too long ago it is not known any more that it is the same.
                self.truth["error"] -= was_known and call not in on._failed
                self.truth["miss"] += 1
            case "send":
                worker.out.append(on.sent(place))
                self.truth["upstream_calls"] += 1
            case "answer" if worker.out:
                sent = worker.out.pop(0)
                on.answered(sent)
                on.charged(sent, Price(Decimal("0.001"), tokens=7))
                self.truth["upstream_tokens"] += 7
            case "not sent" if worker.out:
                on.not_sent(worker.out.pop(0))
                self.truth["upstream_calls"] -= 1
            case "nothing came" if worker.out:
                on.failed(worker.out.pop(0))
            case "prompt":
                on.prompted(place, PromptUse("m", read=4, redundant=1, redundant_usd=Decimal("0.5"), prefix="p"))
                self.truth["reads"] += 1
            case "judge":
                on.judged(place, wrong=True)
                self.truth.update(checked=1, wrong=1)

    def flush(self, worker: Worker, *, closes: bool = False, breaks_at: Breaks = None) -> None:
        """``breaks_at``: which statement fails, or the first of figures; and whether it is done all the same."""
        self.breaks_at = breaks_at
        own = worker.flusher
        try:
            own._due = 0.0
            for rung in (True, False):  # as it wakes it only announces
                own._turn(rung, [], is_closing=closes)
                own._due = 0.0
            own._is_well()
        except DatabaseError as error:
            own._failed(error)
        self.breaks_at = None

    def wait(self, seconds: float) -> None:
        self.now += seconds
        CountingProcess.objects.update(seen_at=F("seen_at") - timedelta(seconds=seconds))

    def kill(self, worker: Worker) -> None:
        """What it had served in the very moment, and not announced yet, nobody knows of."""
        announced = 0 if worker.row is None else worker.row.announced
        self.untold += max(worker.flusher.counts.events - announced, 0)
        self.workers[self.workers.index(worker)] = Worker()

    def compact(self, meanwhile: Callable[[], None] | None = None) -> None:
        """``meanwhile``: happens between what a batch reads and what it writes."""
        self.meanwhile = [] if meanwhile is None else [meanwhile]
        compaction.compact()
        self.meanwhile = []

    # What must be so

    def check(self) -> None:
        written = list(MetricBucket.objects.values(*PLACE, *WATCHED))
        of_places = summed(row for row in written if row["total"] == OF_PLACE)
        for total in (OF_OWNER, OF_ALL):
            assert of_places == summed(row for row in written if row["total"] == total or row["span"] == counts.MINUTE)
        found, lost = self.seen(written), self.lost() + self.untold
        for name in WATCHED:
            most = lost * (7 if name == "upstream_tokens" else 1)
            assert abs(self.truth[name] - found[name]) <= most, (name, found, self.truth, lost)

    def seen(self, written: list[dict[str, Any]]) -> Sums:
        """All that is known by anybody, each once. What its process has not noticed yet that it lost is not."""
        known: dict[tuple[Any, ...], dict[str, Any]] = {}
        for worker in self.workers:
            row = worker.row
            is_gone = row is None or row.unsettled >= rows.GONE
            for at, cell in enumerate(self._left(worker) if is_gone else worker.flusher.counts.known()):
                found = rows.row(cell, worker.flusher.process.id)
                known[(id(worker), at) if is_gone else self._place(found)] = found
        others = (row for row in written if row["total"] == OF_PLACE and self._place(row) not in known)
        return summed([*others, *known.values()])

    def _left(self, worker: Worker) -> Iterator[Cell]:
        """Of one that is taken to be gone: what it has not offered."""
        on = worker.flusher.counts
        for cell in dict.fromkeys((*on._cells.values(), *on._changed, *on._taken)):
            left = cell.copy()
            left.offered = cell.offered
            left.let_go()
            yield left

    def _place(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in PLACE)

    def lost(self) -> int:
        """Of those that do not live, or are taken not to."""
        living = [worker.flusher.process.id for worker in self.workers]
        gone = CountingProcess.objects.exclude(id__in=living, unsettled__lt=rows.GONE)
        return sum(max(row.announced - row.flushed, 0) for row in gone)


@contextmanager
def world(patch: Any) -> Iterator[World]:
    made = World()
    clock = SimpleNamespace(
        time=lambda: made.now, monotonic=lambda: made.now - BEGINNING + 1e6, thread_time=lambda: 0.0
    )
    write, replaced, summed_ = rows.write, compaction._replace, compaction._summed

    def writing(using: str, act: Callable[[], Any]) -> Any:
        at, is_done = made.breaks_at or (-1, False)
        breaks = at == 0 or (at == FIGURES and MetricBucket in getattr(act, "args", ()))
        if breaks or at != FIGURES:
            made.breaks_at = None if breaks or made.breaks_at is None else (at - 1, is_done)
        if breaks and not is_done:
            raise DatabaseError("away")
        done = write(using, act)
        if breaks:
            raise DatabaseError("away")
        return done

    def replacing(*given: Any) -> int:
        done = replaced(*given)
        made.check()
        return done

    def summing(*given: Any) -> Any:
        while made.meanwhile:
            made.meanwhile.pop()()
        return summed_(*given)

    with patch.context() as patches:
        for module in TIMED:
            patches.setattr(module, "time", clock)
        patches.setattr(flusher, "leave", lambda *, whole: None)  # this thread's connections are the test's
        patches.setattr(rows, "write", writing)
        patches.setattr(compaction, "_replace", replacing)
        patches.setattr(compaction, "_summed", summing)
        patches.setattr(compaction, "BATCH", 3)
        patches.setattr(compaction, "MINUTES_KEPT", counts.MINUTE)  # what is settled is rolled up as soon as can be
        yield made
