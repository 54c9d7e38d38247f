"""Real processes, really killed."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.together import PATIENCE, held, until
from tests.fleet.fleet import Process, fleet
from tests.store.servers import suspend

LEASE = 3.0  # of leaders who sleep too long: half of the real one


@pytest.fixture
def tenant() -> str:
    """The workers do not see this process's isolation: a tenant of its own keeps each test apart."""
    return secrets.token_hex(8)


@pytest.fixture(scope="module")
def _kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def _four() -> list[Process]:
    return []


@pytest.fixture
def four(claude: ClaudeServer, _kept: ExitStack, _four: list[Process]) -> list[Process]:
    """For those who kill none of them; new ones where a test that failed has left one at work."""
    if not _four or any(process.is_busy for process in _four):
        _kept.close()
        _four[:] = _kept.enter_context(fleet(4, claude=claude.url))
    return _four


class Waiting:
    """How many in a fleet have come to wait since this was made."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self._before = self._in_all()

    def __call__(self) -> int:
        return self._in_all() - self._before

    def _in_all(self) -> int:
        return sum(process.waited for process in self._processes)


@pytest.mark.parametrize("job", [{"threads": 50}, {"tasks": 50}])
def test_four_processes_of_fifty_are_one_call(
    claude: ClaudeServer, four: list[Process], tenant: str, job: dict[str, int]
) -> None:
    with held(claude, (1, 199), waiters=Waiting(four)):
        for process in four:
            process.ask(tenant, **job)
        answers = [answer for process in four for answer in process.answers()]

    assert claude.count == 1
    assert len(answers) == 200
    assert len({answer.get("text") for answer in answers}) == 1
    assert not [answer for answer in answers if "error" in answer]
    assert Counter(answer["status"] for answer in answers) == {"miss": 1, "coalesced": 199}


def test_a_storm_over_processes_stays_a_few_calls(claude: ClaudeServer, four: list[Process], tenant: str) -> None:
    claude.answer = lambda _: Reply.error(529)
    with held(claude, (1, 199), (1, 2 * 199), (1, 3 * 199), waiters=Waiting(four)):
        for process in four:
            process.ask(tenant, threads=50, retries=2)
        answers = [answer for process in four for answer in process.answers()]

    assert Counter(answer.get("error") for answer in answers) == {"OverloadedError": 200}
    assert claude.count == 3  # three rounds; without sharing it is 600


class Slow:
    """The first calls are answered when they are let go, the first of them first; the others at once."""

    def __init__(self, claude: ClaudeServer, *texts: str) -> None:
        self._texts = texts
        self._free = [threading.Event() for _ in texts]
        claude.answer = self._answer

    def let_go(self, at: int) -> None:
        self._free[at].set()

    def _answer(self, received: Received) -> Reply:
        at = received.number - 1
        if at >= len(self._texts):
            return Reply.text("from nobody who was expected")
        assert self._free[at].wait(2 * PATIENCE)
        return Reply.text(self._texts[at])


def test_a_killed_leader_is_replaced_by_one_other(claude: ClaudeServer, four: list[Process], tenant: str) -> None:
    slow = Slow(claude, "never heard", "from its successor")
    slow.let_go(1)
    others = four[:2]
    with fleet(1, claude=claude.url) as (leader,):
        leader.ask(tenant)
        until(lambda: claude.count == 1, "nobody leads")
        waiting = Waiting(others)
        for process in others:
            process.ask(tenant, threads=10)
        until(lambda: waiting() == 20, lambda: f"{waiting()} wait, and not 20")
        assert claude.count == 1
        leader.kill()
        killed = time.time()
        answers = [answer for process in others for answer in process.answers()]
    slow.let_go(0)

    assert claude.count == 2
    assert len(answers) == 20
    assert {answer.get("text") for answer in answers} == {"from its successor"}
    assert max(answer["at"] for answer in answers) - killed < 10
    assert Counter(answer["status"] for answer in answers) == {"miss": 1, "coalesced": 19}


@pytest.mark.slow
def test_a_leader_that_slept_too_long_overwrites_nothing(
    claude: ClaudeServer, four: list[Process], tenant: str
) -> None:
    slow = Slow(claude, "from the sleeper", "from its successor")
    sleeper, successor, later, _ = four
    sleeper.ask(tenant, lease=LEASE)
    until(lambda: claude.count == 1, "nobody leads")
    suspend(sleeper.pid)
    slow.let_go(0)
    slow.let_go(1)
    successor.ask(tenant, lease=LEASE)  # when the sleeper's has ended
    (second,) = successor.answers()
    os.kill(sleeper.pid, signal.SIGCONT)
    (first,) = sleeper.answers()
    later.ask(tenant)
    (last,) = later.answers()

    assert (first["text"], first["stored"], first["reason"]) == ("from the sleeper", False, "superseded")
    assert (second["text"], second["stored"]) == ("from its successor", True)
    assert (last["text"], last["status"]) == ("from its successor", "hit")
    assert claude.count == 2


@pytest.mark.slow
def test_a_leader_that_slept_frees_nobody_elses_lease(claude: ClaudeServer, four: list[Process], tenant: str) -> None:
    slow = Slow(claude, "from the sleeper", "from its successor")
    sleeper, successor, waiter, _ = four
    sleeper.ask(tenant, lease=LEASE)
    until(lambda: claude.count == 1, "nobody leads")
    suspend(sleeper.pid)
    slow.let_go(0)
    successor.ask(tenant, lease=LEASE)
    until(lambda: claude.count == 2, "nobody leads in the sleeper's place")
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.answers()
    waiting = Waiting([waiter])
    waiter.ask(tenant)
    until(lambda: waiting() or claude.count > 2, "it does not come to wait")
    slow.let_go(1)
    (waited,) = waiter.answers()
    successor.answers()

    assert (waited["text"], waited["status"]) == ("from its successor", "coalesced")
    assert claude.count == 2
