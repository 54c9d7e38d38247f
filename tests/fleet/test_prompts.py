"""Processes whose requests begin alike: one pays the provider for writing that, whoever is killed or refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aicache.store.leases import LEASE
from aicache.testing import ClaudeServer, Reply
from tests.claude.prompts import policies, question, system
from tests.claude.together import until
from tests.spoken import Listened, Told

COLOURS = pytest.mark.parametrize("tasks", [False, True], ids=["in threads", "in tasks"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


class Process(Listened):
    def __init__(self, claude: ClaudeServer, **terms: Any) -> None:
        super().__init__("tests.fleet.prompter", {"claude": claude.url, "POLICIES": policies(**terms)})

    def be_ready(self) -> None:
        assert "ready" in self.hear()

    def ask(self, requests: list[dict[str, Any]], policy: str = "gated", **job: Any) -> None:
        self.say(requests=requests, policy=policy, **job)

    def answers(self) -> list[Told]:
        answers = []
        while "done" not in (told := self.hear()):
            answers.append(told)
        return answers


@contextmanager
def fleet(many: int, claude: ClaudeServer, **terms: Any) -> Iterator[list[Process]]:
    processes: list[Process] = []
    try:
        processes += [Process(claude, **{"settle": "adaptive", **terms}) for _ in range(many)]
        for process in processes:
            process.be_ready()
        yield processes
    finally:
        for process in processes:
            process.kill()


def asked(many: int, prefix: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [question(f"question {number}", system=prefix, **changes) for number in range(many)]


@COLOURS
@STREAMS
def test_of_50_calls_in_4_processes_one_writes_and_49_read(claude: ClaudeServer, tasks: bool, stream: bool) -> None:
    claude.latency = 1.0
    requests = asked(50, system(4000))
    with fleet(4, claude) as processes:
        warm_up(claude, processes, tasks=tasks, stream=stream)
        began = time.monotonic()
        for at, process in enumerate(processes):
            process.ask(requests[at::4], tasks=tasks, stream=stream)
        answers = [answer for process in processes for answer in process.answers()]
        took = time.monotonic() - began

    assert Counter(bool(answer["written"]) for answer in answers) == {True: 1, False: 49}
    assert all(answer["read"] == written(answers) for answer in answers if not answer["written"])
    assert Counter(answer["prompt_cache"] for answer in answers) == {"lead": 1, "wait": 49}
    assert took < 1.5 * (claude.latency + claude.latency)


def warm_up(claude: ClaudeServer, processes: list[Process], **job: Any) -> None:
    """Modules are imported, connections are made."""
    for number, process in enumerate(processes):
        process.ask([question(f"warm {number}")], "default", **job)
    for process in processes:
        process.answers()


def written(answers: list[Told]) -> int:
    (tokens,) = {answer["written"] for answer in answers if answer["written"]}
    return int(tokens)


@STREAMS
def test_a_leader_that_is_killed_keeps_nobody_longer_than_its_lease(claude: ClaudeServer, stream: bool) -> None:
    prefix = system()
    with fleet(2, claude, max_wait=60) as (leader, other):
        claude.latency = 30.0
        leader.ask(asked(1, prefix), stream=stream)
        until(lambda: claude.count == 1, "nobody leads")
        claude.latency = 0.0
        other.ask([question(f"other {number}", system=prefix) for number in range(5)], stream=stream)
        leader.kill()
        answers = other.answers()

    assert Counter(bool(answer["written"]) for answer in answers) == {True: 1, False: 4}
    assert all(answer["waited"] < LEASE + 1 for answer in answers)


@pytest.mark.parametrize("status", [429, 529])
def test_leaders_that_are_refused_keep_nobody_waiting(claude: ClaudeServer, status: int) -> None:
    """However many would be refused one after another."""
    prefix = system()
    claude.answer = lambda received: Reply.error(status, latency=0.5)
    with fleet(2, claude) as processes:
        for at, process in enumerate(processes):
            process.ask([question(f"{at} {number}", system=prefix) for number in range(10)])
        answers = [answer for process in processes for answer in process.answers()]

    assert all("error" in answer for answer in answers)
    assert all(answer["took"] < LEASE for answer in answers)
    assert claude.count == 20
