"""The figures of one process, in memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import aicache
from aicache.core.callinfo import CallInfo
from aicache.ledger import counts as module
from aicache.ledger.counts import AT, MINUTE, Cell, Counts
from tests.claude.together import in_threads

HIT = CallInfo("hit", saved_usd=Decimal("0.5"), saved_tokens=30)
MISS, ERROR = CallInfo("miss"), CallInfo("error")
FREE = Decimal(0)


class Clock:
    """Stands in for ``time.time``."""

    def __init__(self) -> None:
        self.now = 100_000.0 * MINUTE

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def of(cell: Cell) -> dict[str, int]:
    """Its figures that are not 0."""
    return {name: cell.figures[at] for name, at in AT.items() if cell.figures[at]}


def told(counts: Counts) -> list[tuple[Any, int, dict[str, int]]]:
    """Of all cells: whose, how many minutes after the first, and its figures."""
    cells = counts.known()
    first = min(cell.minute for cell in cells)
    return sorted((str(cell.tenant), (cell.minute - first) // MINUTE, of(cell)) for cell in cells)


def count(counts: Counts, info: CallInfo, call: str = "one", tenant: Any = "acme", retried: bool = False) -> None:
    counts.ended(call, tenant, info, FREE, retried=retried)


def test_a_call_is_counted_for_its_tenant_with_its_status() -> None:
    counts = Counts()
    count(counts, HIT)
    count(counts, MISS)
    count(counts, MISS, tenant=aicache.GLOBAL)
    count(counts, CallInfo("unscoped"), tenant=None)

    assert told(counts) == [
        ("Everybody.GLOBAL", 0, {"miss": 1}),
        ("None", 0, {"unscoped": 1}),
        ("acme", 0, {"hit": 1, "miss": 1, "saved_tokens": 30}),
    ]


def test_what_was_saved_is_added_up_exactly() -> None:
    counts = Counts()
    for _ in range(3):
        counts.ended("one", "acme", HIT, Decimal("0.1"), retried=False)
    count(counts, CallInfo("stale", saved_usd=None, saved_tokens=7))
    (cell,) = counts.known()

    assert (cell.usd, cell.premium) == (Decimal("1.5"), Decimal("0.3"))
    assert of(cell) == {"hit": 3, "stale": 1, "unpriced": 1, "saved_tokens": 97}


def test_a_retried_call_is_counted_once_with_its_final_status() -> None:
    counts = Counts()
    count(counts, ERROR, "one")
    count(counts, ERROR, "two")
    count(counts, ERROR, "one", retried=True)
    count(counts, MISS, "one", retried=True)

    assert told(counts) == [("acme", 0, {"error": 1, "miss": 1})]


def test_a_failure_is_taken_back_where_it_was_counted(clock: Clock) -> None:
    counts = Counts()
    count(counts, ERROR, tenant="acme")
    counts.take()
    counts.written()
    clock.now += MINUTE
    count(counts, MISS, tenant="globex", retried=True)

    assert told(counts) == [("acme", 0, {}), ("globex", 1, {"miss": 1})]


def test_a_storm_of_failures_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(module, "MOST_FAILED", 10)
    counts = Counts()
    for number in range(50):
        count(counts, ERROR, str(number))
    assert len(counts._failed) == 10
    clock.now += module.RETRIED_FOR + MINUTE
    count(counts, MISS)
    assert not counts._failed


def test_a_request_that_never_left_is_none() -> None:
    counts = Counts()
    counts.sent("acme")
    counts.not_sent(counts.sent("acme"))

    assert told(counts) == [("acme", 0, {"upstream_calls": 1})]


def test_each_minute_is_counted_by_itself_and_none_comes_again(clock: Clock) -> None:
    counts = Counts()
    count(counts, MISS)
    counts.take()
    counts.written()
    clock.now += MINUTE
    count(counts, HIT)
    clock.now -= 30 * MINUTE  # the machine's clock was put right
    count(counts, HIT)

    assert told(counts) == [("acme", 0, {"hit": 2, "saved_tokens": 60})]


def test_what_was_not_written_is_known_and_taken_again(clock: Clock) -> None:
    counts = Counts()
    count(counts, MISS)
    (taken,), events = counts.take()
    count(counts, HIT)
    clock.now += MINUTE
    count(counts, HIT)
    assert (of(taken), events) == ({"miss": 1}, 1)
    assert told(counts) == [("acme", 0, {"miss": 1, "hit": 1, "saved_tokens": 30}), ("acme", 1, of(counts.known()[0]))]

    counts.not_written()
    cells, events = counts.take()
    assert [of(cell) for cell in cells] == [{"miss": 1, "hit": 1, "saved_tokens": 30}, {"hit": 1, "saved_tokens": 30}]
    assert events == 3
    counts.written()
    assert counts.take() == ([], 3)
    assert len(counts.known()) == 1


def test_what_waits_for_long_takes_no_more_memory_by_the_minute(clock: Clock) -> None:
    counts = Counts()
    for _ in range(500):
        count(counts, HIT)
        count(counts, MISS, tenant="globex")
        clock.now += MINUTE

    cells, _ = counts.take()
    assert len(cells) <= 2 * (module.APART_FOR / MINUTE + 3)
    assert sum(cell.figures[AT["hit"]] for cell in cells) == 500
    assert sum(cell.figures[AT["miss"]] for cell in cells) == 500
    assert sum(cell.usd for cell in cells) == 250


def test_what_may_have_been_written_stays_what_it_is(clock: Clock) -> None:
    counts = Counts()
    count(counts, MISS)
    counts.take()
    counts.not_written()
    clock.now += 100 * MINUTE
    count(counts, HIT)

    assert told(counts) == [("acme", 0, {"miss": 1}), ("acme", 100, {"hit": 1, "saved_tokens": 30})]


class TestExpected:
    def test_are_those_that_are_counted_and_those_under_way(self) -> None:
        counts = Counts()
        counts.began("one")
        counts.began("two")
        assert counts.settled() == (0, 2)
        counts.sent("acme")
        count(counts, MISS, "one")
        assert counts.settled() == (2, 3)
        count(counts, ERROR, "two")
        assert counts.settled() == (3, 3)

    def test_ring_when_they_are_more_than_was_said(self) -> None:
        rung: list[int] = []
        counts = Counts(lambda: rung.append(counts.expected))
        counts.alarm_at = 2
        actions: list[Callable[[], Any]] = [
            lambda: counts.began("one"),
            lambda: counts.sent("acme"),
            lambda: counts.began("two"),
            lambda: count(counts, MISS, "one"),
            lambda: counts.sent("acme"),
        ]
        for act in actions:
            act()
        assert rung == [3, 3, 4]


def test_none_is_lost_that_threads_count_at_once() -> None:
    counts = Counts()
    stop = threading.Event()
    written: dict[Any, Cell] = {}

    def write() -> None:
        while not stop.is_set():
            for cell in counts.take()[0]:
                written[cell.tenant, cell.minute] = cell
            counts.written()

    writer = threading.Thread(target=write)
    writer.start()

    def calls(number: int) -> None:
        for nth in range(500):
            call = f"{number} {nth}"
            counts.began(call)
            counts.sent(number % 3)  # type: ignore[arg-type]  # any tenant will do
            count(counts, ERROR, call, tenant=number % 3)
            count(counts, MISS, call, tenant=number % 3, retried=True)

    assert in_threads(16, calls) == [None] * 16
    stop.set()
    writer.join()
    for cell in counts.take()[0]:
        written[cell.tenant, cell.minute] = cell

    assert sum(cell.figures[AT["miss"]] for cell in written.values()) == 8000
    assert sum(cell.figures[AT["upstream_calls"]] for cell in written.values()) == 8000
    assert sum(cell.figures[AT["error"]] for cell in written.values()) == 0
    assert counts.settled() == (24_000, 24_000)


def test_what_garbage_collection_ends_while_a_call_is_counted_is_counted_too() -> None:
    """An async call whose coroutine is dropped ends wherever the collector happens to run: in here as well."""
    counts = Counts()

    class Dropped:
        def __del__(self) -> None:
            count(counts, ERROR, "dropped")

    class Collecting(dict[Any, Any]):
        """In place of the cells: what is collected is collected under the lock."""

        def get(self, *given: Any) -> Any:
            gc.collect()
            return super().get(*given)

    dropped: Any = Dropped()
    dropped.itself = dropped
    del dropped
    counts._cells = Collecting()
    counts._minute = int(module.time.time()) // MINUTE * MINUTE
    count(counts, MISS)

    assert told(counts) == [("acme", 0, {"miss": 1, "error": 1})]
