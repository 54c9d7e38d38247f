"""From memory into the database: soon, once, and what may be missing is announced before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.test import override_settings

from aicache.core.callinfo import CallInfo
from aicache.ledger import counting, rows, stats
from aicache.ledger import flusher as module
from aicache.ledger.counting import counts_of_its_own
from aicache.ledger.flusher import Flusher
from aicache.ledger.place import Place
from aicache.ledger.prices import Price
from aicache.models import CountingProcess, MetricBucket
from tests.claude.together import in_threads, until
from tests.ledger.conftest import ALIAS
from tests.ledger.prompts import LARGE, at, read, waited

HIT, MISS = CallInfo("hit", saved_usd=Decimal("0.25"), saved_tokens=7), CallInfo("miss")
SOON = 1.0  # second: within which other processes see it


def count(flusher: Flusher, info: CallInfo = HIT, tenant: str = "acme") -> None:
    flusher.counts.began("call", Place(tenant))
    ended(flusher, info, tenant=tenant)


def ended(flusher: Flusher, info: CallInfo, call: str = "call", tenant: str = "acme", *, retried: bool = False) -> None:
    flusher.counts.ended(call, Place(tenant), info, None, "", retried=retried)


def written(name: str = "hit") -> int:
    return sum(MetricBucket.objects.using(ALIAS).values_list(name, flat=True))


def process() -> CountingProcess:
    return CountingProcess.objects.using(ALIAS).get()


def lost_if_killed() -> int:
    found = process()
    return found.announced - found.flushed


@pytest.fixture
def own(place: Any, flusher: Flusher) -> Flusher:
    return flusher


def test_what_is_counted_is_written_within_a_second(own: Flusher) -> None:
    for _ in range(3):
        count(own)
    began = time.monotonic()
    until(lambda: written() == 3, "it is not written")
    assert time.monotonic() - began < SOON
    (row,) = MetricBucket.objects.using(ALIAS).all()
    assert (row.tenant, row.saved_nano_usd, row.saved_tokens) == ("acme", 750_000_000, 21)
    assert stats.read(ALIAS).tenants["acme"].calls == 3


def test_many_places_are_written_less_often(own: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thirtieth of the time is spent on it at most."""
    spent = iter(range(10**9))  # a second, each time that somebody looks
    monkeypatch.setattr(module.time, "thread_time", lambda: next(spent))
    writes: list[float] = []
    write = rows.write_cells
    monkeypatch.setattr(
        rows, "write_cells", lambda *args, **named: (writes.append(time.monotonic()), write(*args, **named))
    )
    count(own)
    until(lambda: writes and own._due >= writes[0] + module.SPARING - 1, "it writes again as soon as ever")
    assert written() == 1
    count(own)
    own.close()
    assert (written(), len(writes)) == (2, 2)


def test_what_was_written_twice_counts_once(own: Flusher) -> None:
    for number in range(1, 4):
        count(own)
        own.close()
        rows.write_cells(own.counts.known(), own.process.id, using=ALIAS)
        own.close()
        assert written() == number
        assert stats.read(ALIAS).tenants["acme"].calls == number


def test_many_who_flush_at_once_lose_nothing_and_count_nothing_twice(own: Flusher) -> None:
    def work() -> None:
        for _ in range(50):
            count(own)
            own.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    own.close()
    assert written() == 400
    assert lost_if_killed() == 0


def test_this_process_knows_at_once_what_it_has_counted(own: Flusher) -> None:
    count(own)
    assert stats.read(ALIAS).tenants["acme"].calls == 1
    own.close()
    count(own)
    count(own, tenant="globex")
    assert {name: figures.calls for name, figures in stats.read(ALIAS).tenants.items()} == {"acme": 2, "globex": 1}
    assert stats.read(ALIAS, tenant="globex").total.calls == 1


def test_a_count_may_go_down(own: Flusher) -> None:
    ended(own, CallInfo("error"))
    own.close()
    assert written("error") == 1
    ended(own, MISS, retried=True)
    own.close()
    assert (written("error"), written("miss")) == (0, 1)


def test_what_is_sent_is_announced_before_it_goes_out(own: Flusher) -> None:
    for _ in range(100):
        counting.sent(Place("acme"))
        assert process().announced >= own.counts.events
    assert written("upstream_calls") <= 100


@pytest.mark.parametrize("idle", [0.0, 2.0])
def test_at_no_moment_would_a_kill_lose_more_than_is_announced(
    idle: float, own: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at before and after each statement. Requests that have gone out are what others have seen of it."""
    monkeypatch.setattr(module, "IDLE", idle)
    monkeypatch.setattr(module, "GATHER", 0.01)
    write = rows.write
    wrong: list[tuple[int, int, int]] = []
    totals: list[list[int]] = []  # of each thread

    def look() -> None:
        seen = sum(total[0] for total in totals)
        found = CountingProcess.objects.using(ALIAS).first()
        lost = found.announced - found.flushed if found else 0
        if seen - written("upstream_calls") > lost:
            wrong.append((seen, written("upstream_calls"), lost))

    def watched(*given: Any) -> Any:
        look()
        done = write(*given)
        look()
        return done

    monkeypatch.setattr(rows, "write", watched)

    def work(number: int) -> None:
        total = [0]
        totals.append(total)
        for number in range(40):
            counting.sent(Place("acme"))
            total[0] += 1
            if number % 10 == 9:
                time.sleep(0.02)

    assert in_threads(6, work) == [None] * 6
    own.close()
    assert written("upstream_calls") == 240
    assert wrong == []


def test_who_counts_nothing_takes_back_what_it_announced(own: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.1)
    count(own)
    until(lambda: written() == 1 and lost_if_killed() == 0, "it is not taken back")
    seen = process().seen_at
    time.sleep(3 * module.GATHER)
    assert process().seen_at == seen  # it is asleep
    count(own)
    until(lambda: written() == 2 and lost_if_killed() == 0, "it did not wake")


def test_what_is_counted_as_it_falls_asleep_is_written(own: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.1)
    rest = own._rest

    def falling_asleep(using: str) -> float | None:
        count(own)
        monkeypatch.undo()
        return rest(using)

    monkeypatch.setattr(own, "_rest", falling_asleep)
    count(own)
    until(lambda: written() == 2 and lost_if_killed() == 0, "it is not written")


def test_whose_end_comes_as_it_falls_asleep_waits_until_that_is_written(
    own: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.1)
    falls_asleep, go_on = threading.Event(), threading.Event()
    write = rows.write_process

    def slow(process: Any, flushed: int, announced: int, *given: Any, **named: Any) -> bool:
        if announced == flushed:
            falls_asleep.set()
            assert go_on.wait(20)
        return write(process, flushed, announced, *given, **named)

    monkeypatch.setattr(rows, "write_process", slow)
    count(own)
    assert falls_asleep.wait(20)
    threading.Timer(0.05, go_on.set).start()
    own.close()
    assert lost_if_killed() == 0


def test_calls_and_requests_under_way_are_announced_until_they_have_ended(
    own: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.1)
    monkeypatch.setattr(module, "HEARTBEAT", 0.1)
    own.counts.began("slow", Place("acme"))
    sent = counting.sent(Place("acme"))
    until(lambda: written("upstream_calls") == 1 and lost_if_killed() == 2, "less, or more, is announced")
    seen = process().seen_at
    until(lambda: process().seen_at > seen, "it does not say that it lives")
    ended(own, MISS, "slow")
    until(lambda: written("miss") == lost_if_killed() == 1, "its end is not written")
    counting.charged(sent, Price(Decimal("0.5")))
    until(lambda: written("spent_nano_usd") == 500_000_000 and lost_if_killed() == 0, "its price is not written")


def test_what_is_counted_after_it_was_closed_is_written_too(own: Flusher) -> None:
    count(own)
    own.close()
    count(own)
    until(lambda: written() == 2, "it is not written")


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody can connect to the database, and those who are lose their connection."""

    def fail(*_: Any, **__: Any) -> Any:
        raise InterfaceError("away")

    with monkeypatch.context() as patch:
        patch.setattr(connections[ALIAS].__class__, "connect", fail)
        patch.setattr(connections[ALIAS].__class__, "create_cursor", fail)
        yield


def test_while_the_database_is_away_nobody_waits_and_nothing_is_lost(
    own: Flusher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(own, "_pause", 0.05)
    count(own)
    until(lambda: written() == 1, "it is not written")
    with away(monkeypatch):
        count(own)
        until(lambda: not own._writes, "it has not noticed")
        began = time.monotonic()
        for _ in range(1000):
            counting.sent(Place("acme"))
            count(own, MISS)
        assert time.monotonic() - began < 0.5
    until(lambda: written("miss") == 1000, "it does not come back")
    assert (written("upstream_calls"), written()) == (1000, 2)
    until(lambda: own._writes, "it does not know that it is back")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "counts cannot be written now: away",
        "counts are written again",
    ]


def test_what_is_not_written_at_the_end_is_told(
    own: Flusher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with away(monkeypatch):
        count(own)
        count(own)
        own.close()
    assert caplog.messages[-1] == "2 counts are lost: the database has not taken them"


def test_a_database_that_hangs_costs_one_budget(own: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    write = rows.write_process

    def hang(*given: Any, **named: Any) -> bool:
        assert let_go.wait(30)
        return write(*given, **named)

    monkeypatch.setattr(rows, "write_process", hang)
    began = time.monotonic()
    for _ in range(20):
        counting.sent(Place("acme"))
    took = time.monotonic() - began
    assert counting.BUDGET <= took < 2 * counting.BUDGET
    let_go.set()
    until(lambda: written("upstream_calls") == 20, "it is not written")


def test_half_a_write_is_made_whole(own: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two batches the second fails, after the first was committed."""
    monkeypatch.setattr(rows, "AT_ONCE", 1)
    monkeypatch.setattr(own, "_pause", 0.05)
    upsert, calls = rows.upsert, []

    def fail(model: Any, *given: Any, **named: Any) -> None:
        if model is MetricBucket:
            calls.append(1)
            if len(calls) == 2:
                raise DatabaseError("broken")
        upsert(model, *given, **named)

    monkeypatch.setattr(rows, "upsert", fail)
    count(own)
    count(own, tenant="globex")
    until(lambda: len(calls) >= 4 and written() == 2, "it is not written")
    own.close()
    assert written() == 2


def test_a_transaction_of_the_sites_is_not_written_into(place: Any, own: Flusher) -> None:
    if "sqlite" not in place["ENGINE"]:
        pytest.skip("elsewhere nobody is in the other's way")
    with transaction.atomic(using=ALIAS):
        assert written() == 0  # it has read: whoever writes now makes its own write fail
        began = time.monotonic()
        counting.sent(Place("acme"))
        assert time.monotonic() - began < counting.BUDGET  # nor does it wait for itself
        count(own)
        time.sleep(3 * module.GATHER)
        MetricBucket.objects.using(ALIAS).create(span=60, start=0, hit=5)
    until(lambda: written() == 6, "it is not written")


def test_where_there_is_no_table_it_says_so_once_and_looks_again(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    connection = connections[ALIAS]
    with connection.schema_editor() as editor:
        editor.delete_model(MetricBucket)
    with counts_of_its_own() as own:
        count(own)
        until(lambda: not own._writes, "it has not noticed")
        counting.sent(Place("acme"))
        time.sleep(0.3)
        with connection.schema_editor() as editor:
            editor.create_model(MetricBucket)
        until(lambda: written() == 1 and own._writes, "it is not written")
    first, second = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "lacks their tables" in first
    assert f"migrate --database {ALIAS}" in first
    assert second == "counts are written again"


@pytest.mark.parametrize("why", ["dummy", "routers"])
def test_where_none_are_wanted_nobody_hears_of_it(why: str, place: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Nowhere:
        def allow_migrate(self, *_: Any, **__: Any) -> bool:
            return False

    chosen = {"DATABASE_ROUTERS": [Nowhere()]}
    if why == "dummy":
        connections.settings[ALIAS]["ENGINE"] = "django.db.backends.dummy"
        chosen = {}
    with override_settings(**chosen), counts_of_its_own() as own:
        count(own)
        until(lambda: own._is_held, "it has not noticed")
        began = time.monotonic()
        counting.sent(Place("acme"))
        assert time.monotonic() - began < counting.BUDGET
        assert stats.unwritten().tenants["acme"].calls == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.django_db
def test_in_a_test_cases_transaction_nothing_is_written(flusher: Flusher) -> None:
    count(flusher)
    counting.sent(Place("acme"))
    assert flusher._thread is None
    assert stats.read("default").tenants["acme"].calls == 1
    assert not MetricBucket.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_nor_is_it_in_a_database_in_memory(flusher: Flusher) -> None:
    count(flusher)
    assert flusher._thread is None
    assert stats.read("default").tenants["acme"].calls == 1
    assert not MetricBucket.objects.exists()


class TestPrompts:
    """What calls do at the provider's prompt cache."""

    def test_are_written_soon(self, own: Flusher) -> None:
        counting.prompted(at(), waited(1.5))
        until(lambda: written("reads") == 1, "it is not written")
        row = MetricBucket.objects.using(ALIAS).get()
        assert (row.tenant, row.model, row.gate_waits, row.gate_waited_ms) == ("acme", LARGE, 1, 1500)
        assert (row.process, row.gate_nano_usd) == (own.process.id, 10_000_000)

    def test_are_made_whole_where_they_were_written_by_half(
        self, own: Flusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(own, "_pause", 0.05)
        upsert, failed = rows.upsert, threading.Event()

        def fail(model: Any, *given: Any, **named: Any) -> None:
            if model is MetricBucket and not failed.is_set():
                failed.set()
                raise DatabaseError("broken")
            upsert(model, *given, **named)

        monkeypatch.setattr(rows, "upsert", fail)
        for _ in range(3):
            counting.prompted(at(), read())
        until(lambda: failed.is_set() and written("reads") == 3, "it is not written")
        assert stats.read(ALIAS).prompts["acme"][LARGE]["reads"] == 3
