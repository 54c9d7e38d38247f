from __future__ import annotations

import asyncio
import threading
from typing import Any

import anthropic
import pytest

import aicache
from aicache.calls import Calls
from aicache.core.callinfo import CallInfo
from aicache.errors import AicacheError, WrongKind
from aicache.frame import current
from aicache.testing import ClaudeServer
from tests.claude.together import in_threads

QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "How do I get a refund?"}],
}
MISS, HIT, ERROR = CallInfo("miss"), CallInfo("hit"), CallInfo("error")


class TestCalls:
    def test_are_none_at_first(self) -> None:
        calls = Calls()

        assert (len(calls), list(calls), calls.last) == (0, [], None)
        assert repr(calls) == "<Calls: none>"

    def test_stand_in_the_order_in_which_they_ended(self) -> None:
        calls = Calls()
        calls.record("one", MISS)
        calls.record("two", HIT)

        assert list(calls) == [MISS, HIT]
        assert calls.last is HIT
        assert repr(calls) == "<Calls: miss, hit>"

    def test_hold_a_retried_call_once_with_its_final_status(self) -> None:
        calls = Calls()
        calls.record("one", ERROR)
        calls.record("two", HIT)
        calls.record("one", MISS)

        assert list(calls) == [HIT, MISS]
        assert len(calls) == 2
        assert calls.last is MISS

    def test_may_be_read_while_more_come(self) -> None:
        calls = Calls()
        calls.record("one", MISS)
        seen = []
        for info in calls:
            calls.record(f"more {len(calls)}", HIT)
            seen.append(info)

        assert seen == [MISS]
        assert len(calls) == 2

    def test_lose_none_that_threads_record_at_once(self) -> None:
        calls = Calls()
        together = threading.Barrier(8)

        def record(number: int) -> None:
            together.wait(30)
            for nth in range(200):
                calls.record(f"{number}-{nth}", HIT)
                assert calls.last is HIT
                assert len(list(calls)) <= len(calls)

        assert in_threads(8, record) == [None] * 8
        assert len(calls) == 1600


class TestAScopesCalls:
    def test_are_those_made_in_it_and_in_the_scopes_inside(self) -> None:
        with aicache.scope() as outer:
            current().record("one", MISS)
            with aicache.scope() as inner:
                current().record("two", HIT)
            current().record("three", ERROR)

        assert list(outer) == [MISS, HIT, ERROR]
        assert list(inner) == [HIT]

    def test_of_a_retry_after_an_inner_scope_ended_are_still_one(self) -> None:
        with aicache.scope() as outer:
            with aicache.scope() as inner:
                current().record("one", ERROR)
            current().record("one", MISS)

        assert (list(outer), list(inner)) == ([MISS], [ERROR])

    def test_hold_what_threads_and_tasks_called_for_it(self) -> None:
        async def ask(number: int) -> None:
            await asyncio.to_thread(current().record, f"thread {number}", HIT)
            current().record(f"task {number}", MISS)

        async def asking() -> Calls:
            with aicache.scope() as calls:
                await asyncio.gather(*(ask(number) for number in range(10)))
            return calls

        assert len(asyncio.run(asking())) == 20

    def test_can_be_read_when_it_has_ended(self) -> None:
        with aicache.scope() as calls:
            current().record("one", ERROR)

        assert list(calls) == [ERROR]


@pytest.fixture
def client(claude: ClaudeServer, aicache_isolated: None) -> Any:
    with anthropic.Anthropic(base_url=claude.url, api_key="key", max_retries=0) as plain:
        yield aicache.wrap(plain)


class TestInfo:
    def test_of_a_message_is_what_the_scope_was_told(self, client: Any) -> None:
        with aicache.scope(tenant="acme") as calls:
            first, second = client.messages.create(**QUESTION), client.messages.create(**QUESTION)

        assert [aicache.info(first), aicache.info(second)] == list(calls)
        assert [call.status for call in calls] == ["miss", "hit"]

    def test_of_a_raw_response_and_of_a_stream_is_too(self, client: Any) -> None:
        with aicache.scope(tenant="acme") as calls:
            raw = client.messages.with_raw_response.create(**QUESTION)
            with client.messages.create(**QUESTION, stream=True) as stream:
                for _ in stream:
                    pass

        assert [aicache.info(raw), aicache.info(stream)] == list(calls)

    def test_of_a_call_that_was_not_awaited_says_so(self, claude: ClaudeServer, aicache_isolated: None) -> None:
        async def asking() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="key") as plain:
                call = aicache.wrap(plain).messages.create(**QUESTION)
                with pytest.raises(WrongKind, match="the client is async, await the call first"):
                    aicache.info(call)
                await call

        asyncio.run(asking())

    def test_of_a_message_that_no_wrapped_client_gave_says_what_is_accepted(self, claude: ClaudeServer) -> None:
        with anthropic.Anthropic(base_url=claude.url, api_key="key") as plain:
            message = plain.messages.create(**QUESTION)

        with pytest.raises(WrongKind, match=r"'Message', which carries no CallInfo; accepted: .*aicache\.wrap"):
            aicache.info(message)

    @pytest.mark.parametrize("thing", [None, "text", {}, object(), CallInfo, MISS, Calls()])
    def test_of_anything_else_says_what_is_accepted(self, thing: Any) -> None:
        with pytest.raises(WrongKind, match="carries no CallInfo; accepted: what a client from"):
            aicache.info(thing)

    def test_fails_with_an_error_of_aicache_and_of_python(self) -> None:
        with pytest.raises(AicacheError):
            aicache.info(None)
        with pytest.raises(TypeError, match="NoneType"):
            aicache.info(None)

    def test_of_things_with_odd_attributes_is_refused_too(self) -> None:
        class Odd:
            _aicache = "mine"
            response = None
            http_response = object()

        with pytest.raises(WrongKind, match="'Odd'"):
            aicache.info(Odd())
