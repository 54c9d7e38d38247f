"""Real processes that call, exit, fork and are killed: statuses add up to calls, requests to what the server saw."""

from __future__ import annotations

import os
import secrets
import signal
import time
from typing import Any

import pytest
from django.db.models import F

from aicache.ledger import stats
from aicache.ledger.counts import STATUSES
from aicache.ledger.flusher import Flusher
from aicache.ledger.stats import Figures, Stats
from aicache.models import CountingProcess
from aicache.testing import ClaudeServer
from tests.claude.together import until
from tests.ledger.callers import Answers, calling
from tests.ledger.conftest import ALIAS

SOON = 1.0  # second: within which other processes see what was counted
THREADS = 40
KILLED = 2  # processes


@pytest.fixture
def job(place: dict[str, Any], claude: ClaudeServer, flusher: Flusher) -> dict[str, Any]:
    Answers(claude)
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
