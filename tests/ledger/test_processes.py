"""Real processes that call, exit, fork and are killed: statuses add up to calls, requests to what the server saw."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.models import F

from aicache.core.callinfo import CallInfo
from aicache.ledger import compaction, stats
from aicache.ledger.compaction import HOUR, compact
from aicache.ledger.counts import MINUTE
from aicache.ledger.figures import STATUSES
from aicache.ledger.flusher import IDLE, Flusher
from aicache.ledger.place import OTHERS, Place
from aicache.ledger.stats import Figures, Stats
from aicache.models import CountingProcess, MetricBucket
from aicache.tenants import tenant_digest
from aicache.testing import ClaudeServer, Reply
from tests.claude.together import until
from tests.ledger.books import of_all, of_owners
from tests.ledger.callers import Answers, calling
from tests.ledger.conftest import ALIAS

SOON = 1.0  # second: within which other processes see what was counted
THREADS = 40
KILLED = 2  # processes


@pytest.fixture
def answers(claude: ClaudeServer) -> Iterator[Answers]:
    found = Answers(claude)
    yield found
    found.released.set()


@pytest.fixture
def job(place: dict[str, Any], claude: ClaudeServer, answers: Answers, flusher: Flusher) -> dict[str, Any]:
    redis = os.environ["AICACHE_TEST_REDIS"]
    return {"database": place, "redis": redis, "claude": claude.url, "namespace": secrets.token_hex(8)}


def read() -> Stats:
    return stats.read(ALIAS)


def has_taken_back(pid: int) -> bool:
    return CountingProcess.objects.using(ALIAS).filter(pid=pid, announced=F("flushed")).exists()


def by_status(figures: Figures) -> dict[str, int]:
    return {status: figures[status] for status in STATUSES if figures[status]}


def test_forty_threads_of_mixed_traffic_are_counted_exactly(job: dict[str, Any], claude: ClaudeServer) -> None:
    with calling(2, job) as (one, other):
        one.begin("mixed", threads=THREADS, each=8)
        other.begin("tasks", many=10, each=4)
        seen = one.hear()["done"], other.hear()["done"]
        statuses = {status: sum(part.get(status, 0) for part in seen) for status in STATUSES}

        own = one.do("stats")["stats"]["tenants"]  # at once, for its own calls
        assert sum(figures["calls"] for figures in own.values()) >= THREADS * 8
        began = time.monotonic()
        until(lambda: read().total.calls == sum(statuses.values()), "others do not see it")
        assert time.monotonic() - began < SOON
        for process in (one, other):
            process.leave()

    found = read()
    assert by_status(found.total) == {status: number for status, number in statuses.items() if number}
    assert found.total.calls == sum(statuses.values()) == THREADS * 8 + 80
    assert found.total["upstream_calls"] == claude.count
    assert found.lost == 0
    assert set(found.tenants) == {"acme", "globex", "initech", "(nobody)"}
    assert {"hit", "miss", "coalesced", "bypass", "unscoped", "error"} <= {
        name for name in STATUSES if found.total[name]
    }


def test_after_a_kill_no_sum_is_wrong_by_more_than_what_is_lost(job: dict[str, Any], claude: ClaudeServer) -> None:
    with calling(KILLED, job) as processes:
        for seed, process in enumerate(processes):
            process.begin("mixed", threads=THREADS, each=1000, seed=seed, tell=True)
        for number, process in enumerate(processes):
            until(lambda at=number: claude.count > 60 * (at + 1), "they do not ask")  # type: ignore[misc]
            process.signal(signal.SIGKILL)
        until(lambda: not claude.in_flight, "the server is at work")
        ended = sum(sum(process.statuses.values()) for process in processes)

    found = read()
    assert found.lost > 0
    assert abs(claude.count - found.total["upstream_calls"]) <= found.lost
    assert ended - found.total.calls <= found.lost
    assert found.total.calls <= ended + KILLED * THREADS  # each thread may have been about to say it
    assert read().lost == found.lost


def test_each_child_counts_what_is_its_own(job: dict[str, Any], claude: ClaudeServer) -> None:
    ways = ["fork", "multiprocessing fork", "multiprocessing spawn"]
    with calling(1, job) as (process,):
        for how in ways:
            process.do("ask", text=f"before {how}")
            process.do("fork", how=how, text=how)
            process.do("ask", text=how)
        process.leave()

    found = read()
    assert by_status(found.total) == {"miss": 6, "hit": 3}
    assert found.total["upstream_calls"] == claude.count == 6
    assert found.lost == 0


def test_however_a_process_ends_what_is_missing_is_lost(job: dict[str, Any], claude: ClaudeServer) -> None:
    calls = 5
    with calling(4, job) as (idle, minds, does_not, at_once):
        for number in range(calls):
            idle.do("ask", text=f"{number}", tenant="idle")
        until(lambda: read().total.calls == calls, "it is not written")
        assert read().lost == 0  # it lives

        for name, process in {"minds": minds, "does not": does_not, "at once": at_once}.items():
            for number in range(calls):
                process.do("ask", text=f"{number}", tenant=name)
        minds.do("end at SIGTERM")
        minds.signal(signal.SIGTERM)
        until(lambda: has_taken_back(idle.pid), "it still announces what it does not count")
        idle.signal(signal.SIGKILL)
        exact = read()
        does_not.do("ask", text="the last", tenant="does not")
        does_not.signal(signal.SIGTERM)
        at_once.do("ask", text="the last", tenant="at once")
        at_once.begin("end at once")
        at_once.leave()

    assert exact.lost == 0
    assert {name: exact.tenants[name].calls for name in ("idle", "minds")} == {"idle": calls, "minds": calls}
    found = read()
    assert claude.count == 4 * calls + 2
    assert found.lost > 0
    assert 0 <= claude.count - found.total["upstream_calls"] <= found.lost
    assert 0 <= claude.count - found.total.calls <= found.lost


@contextmanager
def compacting(monkeypatch: pytest.MonkeyPatch, every: float = 0.2) -> Iterator[list[int]]:
    """A thread that rolls up what it may, again and again. Yields how many rows each time."""
    monkeypatch.setattr(compaction, "BATCH", 20)
    done: list[int] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(every):
                with suppress(OperationalError):  # on SQLite somebody else writes
                    done.append(compact())
        finally:
            connections[ALIAS].close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(30)


def test_what_is_rolled_up_while_processes_count_and_are_killed_is_counted_once(
    job: dict[str, Any], claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the processes half a minute is five hours."""
    since = int(time.time()) // HOUR * HOUR - 8 * HOUR
    with calling(KILLED, {**job, "since": since, "times": 600}) as processes, compacting(monkeypatch) as compacted:
        for seed, process in enumerate(processes):
            process.begin("mixed", threads=8, each=100_000, seed=seed, tell=True)
        rolled_up = MetricBucket.objects.using(ALIAS).filter(process="", span=HOUR)
        until(lambda: rolled_up.filter(start__gte=since + HOUR).exists(), "nothing is rolled up", 90)
        for process in processes:
            process.signal(signal.SIGKILL)
        until(lambda: not claude.in_flight, "the server is at work")
        ended = sum(sum(process.statuses.values()) for process in processes)
    assert sum(compacted) > 0

    found = read()
    assert found.lost > 0
    assert abs(claude.count - found.total["upstream_calls"]) <= found.lost
    assert ended - found.total.calls <= found.lost
    assert found.total.calls <= ended + KILLED * 8
    assert of_all(ALIAS) == of_owners(ALIAS)

    monkeypatch.setattr(compaction, "GONE_AFTER", timedelta(0))
    while compact():
        pass
    assert not MetricBucket.objects.using(ALIAS).filter(span=MINUTE).exists()
    assert read().total == found.total
    assert of_all(ALIAS) == of_owners(ALIAS)


class TestInFlight:
    def test_a_call_is_as_long_as_it_is_under_way(
        self, job: dict[str, Any], claude: ClaudeServer, answers: Answers
    ) -> None:
        with calling(2, job) as (one, other):
            one.begin("ask", text="hangs")
            other.begin("ask", text="hangs too", tenant="globex")
            until(lambda: stats.in_flight(ALIAS) == 2, "nobody knows of them")
            assert stats.in_flight(ALIAS, {tenant_digest("acme")}) == 1
            assert stats.in_flight(ALIAS, {tenant_digest("acme"), tenant_digest("globex")}) == 2
            assert stats.in_flight(ALIAS, {tenant_digest("initech")}) == stats.in_flight(ALIAS, ()) == 0
            time.sleep(stats.UNSEEN + 1)
            assert stats.in_flight(ALIAS) == 2  # they say that they are there
            answers.released.set()
            one.hear()
            other.hear()
            began = time.monotonic()
            until(lambda: stats.in_flight(ALIAS) == 0, "they are still under way")
            assert time.monotonic() - began < 2

    def test_one_of_a_process_that_was_killed_is_none(self, job: dict[str, Any], claude: ClaudeServer) -> None:
        with calling(2, job) as (here, far):
            for process in (here, far):
                process.begin("ask", text=f"hangs {process.pid}")
            until(lambda: stats.in_flight(ALIAS) == 2, "nobody knows of them")
            CountingProcess.objects.using(ALIAS).filter(pid=far.pid).update(host="far away")
            here.signal(signal.SIGKILL)
            assert stats.in_flight(ALIAS) == 1
            far.signal(signal.SIGKILL)
            assert stats.in_flight(ALIAS) == 1  # nobody can see it from here
            until(lambda: stats.in_flight(ALIAS) == 0, "it is still under way", stats.UNSEEN + 2)

    def test_those_of_this_process_are_known_at_once(self, place: Any, flusher: Flusher) -> None:
        flusher.counts.began("one", Place("acme"))
        flusher.counts.began("two", Place(None))
        assert stats.in_flight(ALIAS) == 2
        assert stats.in_flight(ALIAS, {tenant_digest("acme")}) == 1
        for call in ("one", "two"):
            flusher.counts.ended(call, Place("acme"), CallInfo("miss"), None, "", retried=False)
        assert stats.in_flight(ALIAS) == 0

    def test_of_many_owners_the_rest_are_others(self, place: Any, flusher: Flusher) -> None:
        for number in range(250):
            flusher.counts.began(f"{number}", Place(f"t{number % 125}"))
        flusher.counts.began("one more", Place("t7"))
        assert stats.in_flight(ALIAS) == 251
        assert stats.in_flight(ALIAS, {tenant_digest("t7")}) == 3
        assert stats.in_flight(ALIAS, {OTHERS}) == 50


def test_what_a_renewal_in_the_background_costs_is_lost_with_its_process(
    job: dict[str, Any], claude: ClaudeServer, answers: Answers
) -> None:
    policies = {"stale": {"ttl": 0.05, "stale_while_revalidate": 600}}
    with calling(1, {**job, "aicache": {"POLICIES": policies, "DEFAULT_POLICY": "stale"}}) as (process,):
        process.do("ask", text="prices")
        claude.answer = lambda received: answers.released.wait(60) and Reply.text("late")
        time.sleep(0.1)
        assert process.do("ask", text="prices")["done"]["stale"] == 1
        until(lambda: claude.in_flight == 1, "it is not renewed")
        until(lambda: read().total["upstream_calls"] == 2, "it is not written")
        time.sleep(2 * IDLE)
        assert read().lost == 0
        process.signal(signal.SIGKILL)
    assert read().lost == 1
