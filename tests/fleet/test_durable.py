"""What outlives Redis, in real processes: copies of answers, and idempotency keys."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections

from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.fleet.place import Place, Saver, a_place, until
from tests.places import ON

ASKER = "tests.fleet.asker"


@pytest.fixture(scope="module", params=ON)
def standing(request: Any, tmp_path_factory: Any, django_db_blocker: Any, claude_server: Any) -> Iterator[list[Saver]]:
    """Two that ask, for tests that leave them as they were: each has a question of its own."""
    with a_place("durable", request.param, tmp_path_factory.mktemp("durable"), django_db_blocker) as made:
        yield [made.process(ASKER, claude=claude_server.url) for _ in range(2)]


@pytest.fixture
def processes(standing: list[Saver], claude: ClaudeServer) -> list[Saver]:
    return standing


@pytest.fixture
def why() -> str:
    """Nobody has asked it yet."""
    return uuid.uuid4().hex


TOOL = [{"type": "text", "text": "yes"}, {"type": "tool_use", "id": "t1", "name": "refund", "input": {}}]


def status(told: dict[str, Any]) -> tuple[str, str]:
    return told["status"], told["reason"]


def test_an_answer_outlives_redis_for_every_process(processes: list[Saver], claude: ClaudeServer, why: str) -> None:
    one, another = processes
    assert status(one("ask", question=why)) == ("miss", "new")
    assert one("written") == {"written": True}
    one("flush")
    assert status(another("ask", question=why)) == ("hit", "copy")
    assert status(one("ask", question=why)) == ("hit", "")
    assert claude.count == 1


def test_it_is_kept_by_a_process_that_ends_at_once(place: Place, claude: ClaudeServer, why: str) -> None:
    one, another = of_its_own(place, claude)
    one("ask", question=why)
    one.end()
    another("flush")
    assert status(another("ask", question=why)) == ("hit", "copy")


@pytest.mark.parametrize("first", ["read", "write"])
@pytest.mark.parametrize("has_key", [False, True])
def test_the_callers_transaction_does_not_know_of_it(
    processes: list[Saver], claude: ClaudeServer, first: str, has_key: bool, why: str
) -> None:
    one, another = processes
    key = why if has_key else None
    told = one("inside", question=why, first=first, key=key)
    assert (told["status"], told["queries"], told["title"]) == ("miss", 0, why)
    assert one("written") == {"written": True}
    one("flush")
    assert status(another("ask", question=why, key=key))[0] == "hit"
    assert claude.count == 1


@pytest.mark.parametrize("first", ["read", "write"])
def test_what_is_rolled_back_is_not_the_answer_that_was_paid(processes: list[Saver], first: str, why: str) -> None:
    one, another = processes
    assert one("inside", question=why, first=first, fails=True)["title"] != why
    assert one("written") == {"written": True}
    one("flush")
    assert status(another("ask", question=why)) == ("hit", "copy")


def test_what_fails_in_our_tables_leaves_the_callers_transaction_usable(
    place: Place, claude: ClaudeServer, why: str
) -> None:
    process, _ = of_its_own(place, claude)
    with connections[place.alias].cursor() as cursor:
        for table in ("aicache_cacheentry", "aicache_idempotencykey", "aicache_invalidationtag"):
            cursor.execute(f"ALTER TABLE {table} RENAME TO lost_{table}")
    for key in (None, "order-42"):
        told = process("inside", question=f"why {key}?", first="read", key=key)
        assert (told["status"], told["queries"], told["title"]) == ("miss", 0, f"why {key}?")


def test_the_same_request_under_one_key_is_one_call(processes: list[Saver], claude: ClaudeServer, why: str) -> None:
    claude.latency = 0.3
    claude.answer = lambda _: Reply.blocks(TOOL, stop_reason="tool_use")
    told = at_once(processes, [{"question": why, "key": why}] * 2)
    assert Counter(each["status"] for each in told)["miss"] == 1
    assert {each["text"] for each in told} == {"yes"}
    assert claude.count == 1


def test_of_two_requests_under_one_key_one_is_a_conflict(
    processes: list[Saver], claude: ClaudeServer, why: str
) -> None:
    told = at_once(processes, [{"question": question, "key": why} for question in (why, f"{why} again")])
    assert sorted("conflict" in each for each in told) == [False, True]
    assert claude.count == 1


def test_redis_may_be_emptied_while_the_call_is_under_way(
    processes: list[Saver], claude: ClaudeServer, why: str
) -> None:
    one, another = processes
    with held_back(claude) as go_on:
        one.tell("ask", question=why, key=why)
        until(lambda: claude.in_flight == 1)
        another("flush")
        another.tell("ask", question=why, key=why)
        # It would call at once; this is time enough for it to have claimed, and shows a second call for sure.
        assert not go_on.wait(1.0)
        go_on.set()
        assert [status(one.hear())[0], status(another.hear())] == ["miss", ("coalesced", "idempotency_key")]
    assert claude.count == 1


@pytest.mark.slow
def test_who_is_killed_while_it_calls_is_replaced(place: Place, claude: ClaudeServer, why: str) -> None:
    one, another = of_its_own(place, claude)
    with held_back(claude) as go_on:
        one.tell("ask", question=why, key=why)
        until(lambda: claude.in_flight == 1)
        one.kill()
        another.tell("ask", question=why, key=why)
        until(lambda: claude.count == 2, 12.0)
        go_on.set()
        assert another.hear()["status"] == "miss"


def of_its_own(place: Place, claude: ClaudeServer) -> list[Saver]:
    return [place.process(ASKER, claude=claude.url) for _ in range(2)]


@contextmanager
def held_back(claude: ClaudeServer) -> Iterator[threading.Event]:
    """No call is answered before the event is set."""
    go_on = threading.Event()
    answer = claude.answer

    def waiting(received: Received) -> Reply:
        assert go_on.wait(60)
        return answer(received)

    claude.answer = waiting
    try:
        yield go_on
    finally:
        go_on.set()


def at_once(processes: list[Saver], asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for process, each in zip(processes, asked, strict=True):
        process.tell("ask", **each)
    return [process.hear() for process in processes]
