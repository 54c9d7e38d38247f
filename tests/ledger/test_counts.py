"""The figures of one process, in memory."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import aicache
from aicache.core.callinfo import CallInfo
from aicache.core.records import Answer, Entry, Served
from aicache.ledger import counts as module
from aicache.ledger.cell import Cell
from aicache.ledger.counts import MINUTE, Counts
from aicache.ledger.figures import AT, USD
from aicache.ledger.place import Place
from aicache.ledger.prices import Price
from tests.claude.together import in_threads
from tests.ledger.prompts import CENT, LARGE, SMALL, again, at, read, waited, wrote

HIT = CallInfo("hit", saved_usd=Decimal("0.5"), saved_tokens=30)
MISS, ERROR = CallInfo("miss"), CallInfo("error")
ACME = Place("acme")
TENANTS = ("acme", "globex", "initech")
SAVED, PREMIUM = USD["saved"], USD["premium"]


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


def hit_for(premium: str) -> Served:
    answer = Answer(b"{}", usd=Decimal("0.5"), premium=Decimal(premium))
    return Served("hit", entry=Entry("k", "t", answer, 0.0, 0.0, 0.0))


def told(counts: Counts) -> list[tuple[Any, int, dict[str, int]]]:
    """Of all cells: whose, how many minutes after the first, and its figures."""
    cells = counts.known()
    first = min(cell.minute for cell in cells)
    return sorted((str(cell.place.tenant), (cell.minute - first) // MINUTE, of(cell)) for cell in cells)


def count(counts: Counts, info: CallInfo, call: str = "one", tenant: Any = "acme", retried: bool = False) -> None:
    counts.ended(call, Place(tenant), info, None, "", retried=retried)


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
        counts.ended("one", ACME, HIT, hit_for("0.1"), "", retried=False)
    count(counts, CallInfo("stale", saved_usd=None, saved_tokens=7))
    (cell,) = counts.known()

    assert (cell.usd[SAVED], cell.usd[PREMIUM]) == (Decimal("1.5"), Decimal("0.3"))
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
    counts.sent(ACME)
    counts.not_sent(counts.sent(ACME))

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
    assert sum(cell.usd[SAVED] for cell in cells) == 250


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
        counts.began("one", ACME)
        counts.began("two", ACME)
        assert counts.settled() == (0, 2)
        sent = counts.sent(ACME)
        assert counts.settled() == (1, 4)
        count(counts, MISS, "one")
        assert counts.settled() == (2, 4)
        count(counts, ERROR, "two")
        assert counts.settled() == (3, 4)
        counts.charged(sent, Price())
        assert counts.settled() == (4, 4)

    @pytest.mark.parametrize("end", ["failed", "not_sent", "charged"])
    def test_a_request_ends_once_however_often_that_is_said(self, end: str) -> None:
        counts = Counts()
        sent = counts.sent(ACME)
        ends: dict[str, Callable[[], None]] = {
            "failed": lambda: counts.failed(sent),
            "not_sent": lambda: counts.not_sent(sent),
            "charged": lambda: counts.charged(sent, Price(Decimal(1), tokens=5)),
        }
        for say in (ends[end], *ends.values()):
            say()
        assert counts.settled() == (2, 2)
        figures = {
            "failed": {"upstream_calls": 1},
            "not_sent": {},
            "charged": {"upstream_calls": 1, "upstream_tokens": 5},
        }
        assert told(counts) == [("acme", 0, figures[end])]

    def test_ring_when_they_are_more_than_was_said(self) -> None:
        rung: list[int] = []
        counts = Counts(lambda: rung.append(counts.expected))
        counts.alarm_at = 2
        actions: list[Callable[[], Any]] = [
            lambda: counts.began("one", ACME),
            lambda: counts.sent(ACME),
            lambda: counts.began("two", ACME),
            lambda: count(counts, MISS, "one"),
            lambda: counts.sent(ACME),
        ]
        for act in actions:
            act()
        assert rung == [3, 4, 4, 6]


def test_none_is_lost_that_threads_count_at_once() -> None:
    counts = Counts()
    stop = threading.Event()
    written: dict[Any, Cell] = {}

    def write() -> None:
        while not stop.is_set():
            for cell in counts.take()[0]:
                written[cell.place, cell.minute] = cell
            counts.written()

    writer = threading.Thread(target=write)
    writer.start()

    def calls(number: int) -> None:
        for nth in range(500):
            call = f"{number} {nth}"
            tenant = TENANTS[number % 3]
            counts.began(call, Place(tenant))
            counts.failed(counts.sent(Place(tenant)))
            count(counts, ERROR, call, tenant=tenant)
            count(counts, MISS, call, tenant=tenant, retried=True)

    assert in_threads(16, calls) == [None] * 16
    stop.set()
    writer.join()
    for cell in counts.take()[0]:
        written[cell.place, cell.minute] = cell

    assert sum(cell.figures[AT["miss"]] for cell in written.values()) == 8000
    assert sum(cell.figures[AT["upstream_calls"]] for cell in written.values()) == 8000
    assert sum(cell.figures[AT["error"]] for cell in written.values()) == 0
    assert counts.settled() == (32_000, 32_000)


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
    counts._by_place = Collecting()
    counts._minute = int(module.time.time()) // MINUTE * MINUTE
    count(counts, MISS)

    assert told(counts) == [("acme", 0, {"miss": 1, "error": 1})]


class TestPrompts:
    """What calls do at the provider's prompt cache."""

    def test_they_are_of_a_tenant_and_a_model(self) -> None:
        counts = Counts()
        counts.prompted(at(LARGE), read())
        counts.prompted(at(SMALL), read())
        counts.prompted(at(LARGE, "globex"), wrote(5))
        counts.prompted(at(LARGE, None), read(7))
        assert {cell.place[:2]: of(cell) for cell in counts.known()} == {
            ("acme", LARGE): {"reads": 1, "read_tokens": 4000},
            ("acme", SMALL): {"reads": 1, "read_tokens": 4000},
            ("globex", LARGE): {"writes": 1, "written_tokens": 5},
            (None, LARGE): {"reads": 1, "read_tokens": 7},
        }

    def test_each_is_an_event_of_which_a_flusher_hears(self) -> None:
        rung: list[int] = []
        counts = Counts(lambda: rung.append(counts.events))
        counts.alarm_at = 1
        for _ in range(2):
            counts.prompted(at(), read())
        assert counts.settled() == (2, 2)
        assert rung == [2]

    def test_what_is_taken_to_be_written_stays_what_it_was(self) -> None:
        counts = Counts()
        counts.prompted(at(), read())
        (taken,), _ = counts.take()
        (known,) = counts.known()
        counts.prompted(at(), read())
        counts.prompted(at(SMALL), read())
        assert of(taken) == of(known) == {"reads": 1, "read_tokens": 4000}
        assert of(counts.take()[0][0])["reads"] == 2

    def test_a_minute_is_counted_by_itself_and_goes_along_where_it_is_moved(self, clock: Clock) -> None:
        counts = Counts()
        counts.prompted(at(), again())
        clock.now += MINUTE
        counts.prompted(at(), read())
        assert [of(cell).get("writes") for cell in counts.known()] == [None, 1]

        clock.now += 2 * module.APART_FOR
        counts.prompted(at(SMALL), read())
        found = {cell.place.model: cell for cell in counts.take()[0]}
        assert set(found) == {LARGE, SMALL}
        assert of(found[LARGE]) == {
            **{"writes": 1, "written_tokens": 4000, "redundant_writes": 1, "redundant_tokens": 3000},
            **{"reads": 1, "read_tokens": 4000},
        }
        assert found[LARGE].usd[USD["redundant"]] == CENT

    def test_none_is_lost_that_threads_count_at_once(self) -> None:
        counts, interval = Counts(), sys.getswitchinterval()

        def calls(_: int) -> None:
            for _ in range(300):
                counts.prompted(at(), waited(0.001))

        sys.setswitchinterval(1e-6)
        try:
            assert in_threads(8, calls) == [None] * 8
        finally:
            sys.setswitchinterval(interval)
        cells = counts.known()
        assert sum(of(cell)["reads"] for cell in cells) == sum(of(cell)["gate_waits"] for cell in cells) == 2400
        assert sum(of(cell)["read_tokens"] for cell in cells) == 9_600_000
        assert sum(of(cell)["gate_waited_ms"] for cell in cells) == 2400
        assert sum(cell.usd[USD["gate"]] for cell in cells) == 24
