"""Real processes, really killed."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from aicache.store.leases import LEASE
from aicache.testing import ClaudeServer, Reply
from tests.fleet.fleet import Process, processes


@pytest.fixture
def tenant() -> str:
    """The workers do not see this process's isolation: a tenant of its own keeps each test apart."""
    return secrets.token_hex(8)


def until(told: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("job", [{"threads": 50}, {"tasks": 50}])
def test_four_processes_of_fifty_are_one_call(claude: ClaudeServer, tenant: str, job: dict[str, int]) -> None:
    claude.latency = 1.0
    with processes(claude.url, *[{**job, "tenant": tenant}] * 4) as fleet:
        answers = [answer for process in fleet for answer in process.answers()]

    assert claude.count == 1
    assert len(answers) == 200
    assert len({answer.get("text") for answer in answers}) == 1
    assert not [answer for answer in answers if "error" in answer]
    assert Counter(answer["status"] for answer in answers)["miss"] == 1


def test_a_storm_over_processes_stays_a_few_calls(claude: ClaudeServer, tenant: str) -> None:
    claude.answer = lambda _: Reply.error(529)
    claude.latency = 0.7
    with processes(claude.url, *[{"threads": 50, "tenant": tenant, "retries": 2}] * 4) as fleet:
        answers = [answer for process in fleet for answer in process.answers()]

    assert Counter(answer.get("error") for answer in answers) == {"OverloadedError": 200}
    # Three rounds; a process that is late by a whole call may ask once more in each. Without sharing it is 600.
    assert claude.count <= 3 * 3


def test_a_killed_leader_is_replaced_by_one_other(claude: ClaudeServer, tenant: str) -> None:
    claude.script(Reply.text("never heard", latency=60))
    with processes(claude.url, {"tenant": tenant}, at_once=False) as (leader,):
        until(lambda: claude.in_flight)
        with processes(claude.url, *[{"threads": 10, "tenant": tenant}] * 2, at_once=False) as fleet:
            time.sleep(1.0)  # let them wait
            assert claude.count == 1
            leader.kill()
            killed = time.time()
            answers = [answer for process in fleet for answer in process.answers()]

    assert claude.count == 2
    assert len(answers) == 20
    assert len({answer.get("text") for answer in answers}) == 1
    assert max(answer["at"] for answer in answers) - killed < 10
    assert Counter(answer["status"] for answer in answers) == {"miss": 1, "coalesced": 19}


@pytest.mark.slow
def test_a_leader_that_slept_too_long_overwrites_nothing(claude: ClaudeServer, tenant: str) -> None:
    claude.script(Reply.text("from the sleeper", latency=1.0), Reply.text("from its successor"))
    with processes(claude.url, {"tenant": tenant}, at_once=False) as (sleeper,):
        until(lambda: claude.in_flight)
        os.kill(sleeper.pid, signal.SIGSTOP)
        time.sleep(LEASE + 1)
        (second,) = Process(claude.url, tenant=tenant).answers()
        os.kill(sleeper.pid, signal.SIGCONT)
        (first,) = sleeper.answers()
        (later,) = Process(claude.url, tenant=tenant).answers()

    assert (first["text"], first["stored"], first["reason"]) == ("from the sleeper", False, "superseded")
    assert (second["text"], second["stored"]) == ("from its successor", True)
    assert (later["text"], later["status"]) == ("from its successor", "hit")


@pytest.mark.slow
def test_a_leader_that_slept_frees_nobody_elses_lease(claude: ClaudeServer, tenant: str) -> None:
    claude.script(Reply.text("from the sleeper", latency=1.0), Reply.text("from its successor", latency=4.0))
    with processes(claude.url, {"tenant": tenant}, at_once=False) as (sleeper,):
        until(lambda: claude.in_flight)
        os.kill(sleeper.pid, signal.SIGSTOP)
        time.sleep(LEASE + 1)
        successor = Process(claude.url, tenant=tenant)
        until(lambda: claude.count == 2)
        os.kill(sleeper.pid, signal.SIGCONT)
        sleeper.answers()
        (waiter,) = Process(claude.url, tenant=tenant).answers()
        successor.answers()

    assert (waiter["text"], waiter["status"]) == ("from its successor", "coalesced")
    assert claude.count == 2
