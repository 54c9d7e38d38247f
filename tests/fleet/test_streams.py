"""Streams that real processes share while they are under way, and whose leaders and followers leave or are killed."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anthropic
import pytest
import redis

from aicache.tenants import tenant_digest
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.together import until
from tests.fleet.streamer import Stand, question
from tests.spoken import Listened, Told

TEXT = "What the leader says, word for word, to everybody who asks. " * 5
OPENING = 3  # events before the first delta: the message, its block, and a ping
WHEN_DEAD = 10.0  # seconds in which a dead leader is noticed, as promised
AT_ONCE = 2.0  # seconds, on a busy machine: nothing that has to run out is so short

# How a caller asks, and leaves.
KINDS = {
    "in threads": {},
    "in tasks": {"in_tasks": True},
    "in tasks, cancelled": {"in_tasks": True, "is_cancelled": True},
}
COLOURS = pytest.mark.parametrize("in_tasks", [False, True], ids=["in threads", "in tasks"])


class Process(Listened):
    """A worker under way; ``stand``: of those who ask in it."""

    def __init__(self, url: str) -> None:
        self.stand: Stand = {}
        self.is_busy = False
        super().__init__("tests.fleet.streamer", {"claude": url})

    def be_ready(self) -> None:
        assert "ready" in self.hear()

    def ask(self, *callers: Told, in_tasks: bool = False) -> None:
        self.is_busy, self.stand = True, {}
        self.say(callers=callers, in_tasks=in_tasks)

    def answers(self) -> list[Told]:
        """All that its callers came to, once they have."""
        answers = []
        while "done" not in (told := self.hear()):
            answers.append(told)
        self.is_busy = False
        return answers

    def answer(self) -> Told:
        (told,) = self.answers()
        return told

    def noted(self, told: Told) -> bool:
        self.stand = told.get("stand", self.stand)
        return "stand" in told


@contextmanager
def fleet(many: int, claude: ClaudeServer) -> Iterator[list[Process]]:
    processes: list[Process] = []
    try:
        processes += [Process(claude.url) for _ in range(many)]
        for process in processes:
            process.be_ready()
        yield processes
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def _kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def _five() -> list[Process]:
    return []


@pytest.fixture
def five(claude: ClaudeServer, _kept: ExitStack, _five: list[Process]) -> list[Process]:
    """For those who kill none of them: one to lead, four to follow."""
    if not _five or any(process.is_busy for process in _five):
        _kept.close()
        _five[:] = _kept.enter_context(fleet(5, claude))
    return _five


@pytest.fixture
def tenant() -> str:
    return secrets.token_hex(8)


class Gate:
    """Lets so many events of a stream out to begin with."""

    def __init__(self, out: int) -> None:
        self._most: float = out

    def __call__(self, number: int) -> bool:
        return number < self._most

    def let(self, more: int) -> None:
        self._most += more

    def open(self) -> None:
        self._most = float("inf")


def asked(claude: ClaudeServer, tenant: str) -> int:
    """How often upstream was, for this tenant."""
    return sum(call.text == tenant for call in claude.calls)


def answering(claude: ClaudeServer, replies: dict[str, Reply]) -> None:
    """Each tenant's first call by its reply; whoever calls after that gets another."""

    def answer(received: Received) -> Reply:
        first = asked(claude, received.text) == 1
        return replies[received.text] if first else Reply.text(f"from a successor. {TEXT}")

    claude.answer = answer


def came(processes: list[Process], *, reading: int = 0, waiting: int = 0) -> None:
    """Returns when so many are in the middle of a stream, and so many wait for a whole answer."""

    def stand() -> dict[str, int]:
        return {name: sum(process.stand.get(name, 0) for process in processes) for name in ("reading", "waiting")}

    until(lambda: stand() == {"reading": reading, "waiting": waiting}, lambda: f"{reading}, {waiting}: {stand()}")


def in_the_middle(process: Process, deltas: int) -> None:
    until(lambda: process.stand.get("deltas") == deltas, lambda: f"it has not come to {deltas}: {process.stand}")


def streaming(tenant: str, many: int = 1, **more: Any) -> list[Told]:
    return [{"tenant": tenant, **more}] * many


def plain(tenant: str, many: int = 1) -> list[Told]:
    return streaming(tenant, many, streams=False)


def ask(process: Process, kind: str, tenant: str, **more: Any) -> None:
    """One who streams, and leaves in the way of its kind."""
    how = KINDS[kind]
    process.ask(*streaming(tenant, is_cancelled="is_cancelled" in how, **more), in_tasks="in_tasks" in how)


def text_of(answer: Told) -> str:
    (block,) = answer["message"]["content"]
    text: str = block["text"]
    return text


def next_call(process: Process, tenant: str) -> tuple[str, str]:
    process.ask(*plain(tenant))
    told = process.answer()
    return told["status"], told["reason"]


def kept_in_redis(tenant: str) -> list[str]:
    """What sorts of keys there are of this tenant: e an entry, l what was last stored, w a lease, v what is there of a
    stream. A mark ends by itself."""
    with redis.Redis.from_url(os.environ["AICACHE_TEST_REDIS"]) as server:
        keys = server.scan_iter(match=f"aicache:*{tenant_digest(tenant)}*", count=10_000)
        sorts = {key.decode().partition("}:")[2].partition(":")[0] for key in keys}
    return sorted(sorts - {"m"})


@pytest.fixture
def broken(claude: ClaudeServer) -> str:
    """The error that the SDK raises of itself where a stream breaks."""
    claude.answer = lambda _: Reply.text(TEXT, drop_after=900)
    events = []
    with anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0) as client:
        try:
            with client.messages.stream(**question("who breaks")) as stream:
                events += stream
        except Exception as error:  # noqa: BLE001 - whatever it is
            assert events
            return type(error).__name__
    raise AssertionError("it did not break")


@COLOURS
def test_a_leader_and_a_hundred_followers_in_four_processes_are_one_call(
    claude: ClaudeServer, five: list[Process], tenant: str, in_tasks: bool
) -> None:
    leader, *others = five
    gate = Gate(OPENING + 2)
    answering(claude, {tenant: Reply.text(TEXT, gate=gate)})
    leader.ask(*streaming(tenant), in_tasks=in_tasks)
    in_the_middle(leader, 2)
    for group, readers in ((others[:2], 40), (others[2:], 80)):
        for process in group:
            process.ask(*streaming(tenant, 20), *plain(tenant, 5), in_tasks=in_tasks)
        came(others, reading=readers, waiting=readers // 4)
        gate.let(3)
    for deltas in range(8, 20):  # each comes by itself, and not with the next
        in_the_middle(leader, deltas)
        gate.let(1)
    gate.open()
    answers = [leader.answer(), *(answer for process in others for answer in process.answers())]

    assert not [answer for answer in answers if "message" not in answer]
    assert claude.count == 1
    assert len(answers) == 101
    assert all(answer["message"] == answers[0]["message"] for answer in answers)
    assert text_of(answers[0]) == TEXT
    assert Counter(answer["status"] for answer in answers) == {"miss": 1, "coalesced": 100}
    assert len({answer["events"] for answer in answers if answer["streams"]}) == 1
    assert next_call(leader, tenant) == ("hit", "")
    assert kept_in_redis(tenant) == ["e", "l"]


def test_of_a_killed_leader_nothing_is_kept_and_who_has_got_nothing_has_another(
    claude: ClaudeServer, five: list[Process], broken: str
) -> None:
    read, both, not_begun = tenants = [f"{name} {secrets.token_hex(8)}" for name in ("read", "both", "not begun")]
    out = {read: OPENING + 4, both: OPENING + 2, not_begun: 0}
    answering(claude, {tenant: Reply.text(TEXT, gate=Gate(out[tenant])) for tenant in tenants})
    others = five[:2]
    with fleet(1, claude) as (leader,):
        leader.ask(*(caller for tenant in tenants for caller in streaming(tenant)))
        until(lambda: len(claude.calls) == 4, "it does not lead")  # with that which broke
        in_the_middle(leader, 6)
        for process, in_tasks in zip(others, (False, True), strict=True):
            who = [*streaming(read, 4), *streaming(both, 4), *plain(both, 3), *streaming(not_begun, 4)]
            process.ask(*who, *plain(not_begun, 2), in_tasks=in_tasks)
        came(others, reading=2 * 8, waiting=2 * 9)
        leader.kill()
        killed = time.time()
        answers = [answer for process in others for answer in process.answers()]

    assert max(answer["at"] for answer in answers) - killed < WHEN_DEAD
    in_the_midst = [answer for answer in answers if answer["streams"] and answer["tenant"] != not_begun]
    assert Counter(answer.get("error") for answer in in_the_midst) == {broken: 16}
    for tenant, many in ((both, 6), (not_begun, 12)):
        served = [answer for answer in answers if answer["tenant"] == tenant and answer not in in_the_midst]
        assert not [answer for answer in served if "message" not in answer]
        assert Counter(answer["status"] for answer in served) == {"miss": 1, "coalesced": many - 1}
        assert all(answer["message"] == served[0]["message"] for answer in served)
        assert text_of(served[0]).startswith("from a successor")
        assert asked(claude, tenant) == 2
    assert asked(claude, read) == 1
    assert "e" not in kept_in_redis(read)
    assert next_call(others[0], read) == ("miss", "new")
    assert asked(claude, read) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_followers_get_the_whole_of_a_stream_whose_own_caller_leaves(
    claude: ClaudeServer, five: list[Process], tenant: str, kind: str
) -> None:
    leader, follower, *_ = five
    gate = Gate(OPENING + 2)
    answering(claude, {tenant: Reply.text(TEXT, gate=gate)})
    ask(leader, kind, tenant, until=3)
    in_the_middle(leader, 2)
    follower.ask(*streaming(tenant, 3), *plain(tenant, 2))
    came([follower], reading=3, waiting=2)
    gate.let(1)
    assert leader.answer()["left"]  # and waits for nobody
    assert claude.in_flight == 1
    gate.open()
    answers = follower.answers()

    assert [answer.get("status") for answer in answers] == ["coalesced"] * 5
    assert all(answer["message"] == answers[0]["message"] for answer in answers)
    assert text_of(answers[0]) == TEXT
    assert claude.count == 1
    assert next_call(leader, tenant) == ("hit", "")
    assert kept_in_redis(tenant) == ["e", "l"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_its_caller_leaves_and_nobody_follows_is_closed(
    claude: ClaudeServer, five: list[Process], tenant: str, kind: str
) -> None:
    leader, *_ = five
    answering(claude, {tenant: Reply.text(TEXT, gate=Gate(OPENING + 3))})
    ask(leader, kind, tenant, until=3)
    told = leader.answer()
    until(lambda: claude.in_flight == 0, "upstream is not closed")

    assert told["left"]
    assert time.time() - told["at"] < AT_ONCE
    assert {"e", "v", "w"} & set(kept_in_redis(tenant)) == set()
    assert next_call(leader, tenant) == ("miss", "new")
    assert claude.count == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_its_caller_leaves_and_its_follower_has_left_is_closed(
    claude: ClaudeServer, five: list[Process], tenant: str, kind: str
) -> None:
    leader, follower, *_ = five
    gate = Gate(OPENING + 2)
    answering(claude, {tenant: Reply.text(TEXT, gate=gate)})
    ask(leader, kind, tenant, until=4)
    in_the_middle(leader, 2)
    ask(follower, kind, tenant, until=3)
    came([follower], reading=1)
    gate.let(1)  # and the leader's process sees that it is followed
    assert follower.answer()["left"]
    gate.let(1)  # no more comes, and the leader leaves
    told = leader.answer()
    until(lambda: claude.in_flight == 0, "upstream is not closed")

    assert told["left"]
    assert time.time() - told["at"] < AT_ONCE
    assert {"e", "v", "w"} & set(kept_in_redis(tenant)) == set()
    assert next_call(leader, tenant) == ("miss", "new")
    assert claude.count == 2


def test_followers_that_leave_or_are_killed_disturb_nobody(
    claude: ClaudeServer, five: list[Process], tenant: str
) -> None:
    leader, in_threads, in_tasks, leaving, cancelled = five
    gate = Gate(OPENING + 2)
    answering(claude, {tenant: Reply.text(TEXT, gate=gate)})
    leader.ask(*streaming(tenant))
    in_the_middle(leader, 2)
    with fleet(1, claude) as (victim,):
        who = [*streaming(tenant, 3), *plain(tenant, 2)]
        victim.ask(*who)
        in_threads.ask(*who)
        in_tasks.ask(*who, in_tasks=True)
        leaving.ask(*streaming(tenant, 2, until=3))
        cancelled.ask(*streaming(tenant, 2, until=3, is_cancelled=True), in_tasks=True)
        came([victim, in_threads, in_tasks, leaving, cancelled], reading=13, waiting=6)
        victim.kill()
        gate.let(1)
        left = [answer.get("left") for process in (leaving, cancelled) for answer in process.answers()]
    gate.open()
    answers = [leader.answer(), *in_threads.answers(), *in_tasks.answers()]

    assert left == [True] * 4
    assert [answer.get("status") for answer in answers] == ["miss"] + ["coalesced"] * 10
    assert all(answer["message"] == answers[0]["message"] for answer in answers)
    assert text_of(answers[0]) == TEXT
    assert claude.count == 1
    assert next_call(leaving, tenant) == ("hit", "")
    assert kept_in_redis(tenant) == ["e", "l"]
