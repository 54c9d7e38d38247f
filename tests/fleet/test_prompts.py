"""Processes whose requests begin alike: one pays the provider for writing that, whoever is killed or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aicache.store.leases import LEASE
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.prompts import policies, question, system
from tests.claude.together import until
from tests.spoken import Listened, Told


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


WAYS = [{}, {"stream": True}, {"tasks": True}, {"tasks": True, "stream": True}]


def test_of_50_calls_in_4_processes_one_writes_and_49_read_all_at_once(claude: ClaudeServer) -> None:
    def together(received: Received) -> Reply:
        """The leader is answered when it has kept others waiting, the others when they are all there."""
        leads = received.number == 1
        if not leads:
            until(lambda: claude.in_flight >= 49 or claude.peak >= 49, "the others do not come at once")
        return Reply.text("Here you are.", latency=1.0 if leads else 0.0)

    with fleet(4, claude) as processes:
        for way in WAYS:
            claude.reset()
            warm_up(processes, **way)
            claude.reset()
            claude.answer = together
            requests = asked(50, system(4000))
            for at, process in enumerate(processes):
                process.ask(requests[at::4], **way)
            answers = [answer for process in processes for answer in process.answers()]

            assert Counter(bool(answer["written"]) for answer in answers) == {True: 1, False: 49}, way
            assert all(answer["read"] == written(answers) for answer in answers if not answer["written"])
            gate = Counter(answer["prompt_cache"] for answer in answers)
            assert gate["lead"] == 1
            assert gate["wait"] > gate["open"], way


def warm_up(processes: list[Process], **job: Any) -> None:
    """Modules are imported, connections are made."""
    for number, process in enumerate(processes):
        process.ask([question(f"warm {number}")], "default", **job)
    for process in processes:
        process.answers()


def written(answers: list[Told]) -> int:
    (tokens,) = {answer["written"] for answer in answers if answer["written"]}
    return int(tokens)


def test_leaders_that_die_or_are_refused_keep_nobody_waiting(claude: ClaudeServer) -> None:
    """However many would be refused one after another; and no longer than a lease where one is killed."""
    with fleet(3, claude, max_wait=60) as (*processes, leader):
        for status in (429, 529):
            prefix, before = system(), claude.count
            claude.answer = lambda received: Reply.error(status, latency=0.5)  # noqa: B023
            for at, process in enumerate(processes):
                process.ask([question(f"{at} {number}", system=prefix) for number in range(10)])
            answers = [answer for process in processes for answer in process.answers()]
            assert all("error" in answer for answer in answers)
            assert all(answer["took"] < LEASE for answer in answers)
            assert claude.count - before == 20

        claude.reset()
        prefix, claude.latency = system(), 30.0
        leader.ask(asked(1, prefix), stream=True)
        until(lambda: claude.count == 1, "nobody leads")
        claude.latency = 0.0
        for at, process in enumerate(processes):
            process.ask([question(f"{at} {number}", system=prefix) for number in range(5)])
        leader.kill()
        answers = [answer for process in processes for answer in process.answers()]
        assert Counter(bool(answer["written"]) for answer in answers) == {True: 1, False: 9}
        assert all(answer["waited"] < LEASE + 1 for answer in answers)
