"""One upstream call for any number of simultaneous duplicates, and what becomes of them when it goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import anthropic
import pytest
from django.test import override_settings

import aicache
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import in_threads, together

MANY = 40


def test_simultaneous_duplicates_are_one_call(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 0.3
    with aicache.scope(tenant="acme") as calls:
        answers = together(asker, MANY)

    assert claude.count == 1
    assert len({answer.content[0].text for answer in answers}) == 1
    assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": MANY - 1}
    waits = [call.waited for call in calls if call.status == "coalesced"]
    assert all(0 < wait < 5 for wait in waits)


def test_duplicates_of_two_tenants_are_two_calls(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 0.2

    def ask(at: int) -> Any:
        with aicache.scope(tenant=("acme", "globex")[at % 2]):
            return asker.create()

    answers = in_threads(16, ask)

    assert claude.count == 2
    assert len({answer.content[0].text for answer in answers[::2]}) == 1
    assert len({answer.content[0].text for answer in answers[1::2]}) == 1
    assert answers[0].content[0].text != answers[1].content[0].text


def test_bypassed_duplicates_share_nothing(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 0.1
    with aicache.scope(tenant="acme", bypass=True):
        together(asker, 5)

    assert claude.count == 5


def test_refreshing_duplicates_are_one_call(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme"):
        old = asker.create()
        claude.latency = 0.3
        with aicache.scope(refresh=True):
            answers = together(asker, 10)

    assert claude.count == 2
    assert {answer.content[0].text for answer in answers}.isdisjoint({old.content[0].text})


def test_an_answer_that_calls_a_tool_is_for_its_own_caller_and_the_others_ask_at_once(
    asker: Asker, claude: ClaudeServer
) -> None:
    claude.answer = lambda _: Reply.tool_use("refund", {"order": 1})
    claude.latency = 0.3
    began = time.monotonic()
    with aicache.scope(tenant="acme") as calls:
        together(asker, 10)
    took = time.monotonic() - began

    assert claude.count == 10
    assert claude.peak == 9
    assert took < 3 * 0.3 + 1  # two rounds, not ten
    assert Counter(call.reason for call in calls) == {"stop_reason:tool_use": 1, "not_shared": 9}
    assert {call.status for call in calls} == {"miss"}


def test_a_tool_call_is_shared_where_the_policy_says_so(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.tool_use("refund", {"order": 1})
    claude.latency = 0.3
    policies = {"tools": {"store_tool_use": True}}
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": "tools" + asker.colour}):
        with aicache.scope(tenant=claude.url, policy="tools"):
            together(asker, 10)

    assert claude.count == 1


def test_a_truncated_answer_is_shared_with_those_who_wait_and_not_kept(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("long " * 400)
    claude.latency = 0.3
    with aicache.scope(tenant="acme") as calls:
        together(asker, 5)
        asker.create()

    assert claude.count == 2
    assert not any(call.stored for call in calls)
    assert calls.last is not None
    assert calls.last.status == "miss"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 529])
def test_those_who_wait_get_the_error_with_its_type_headers_and_request_id(
    asker: Asker, claude: ClaudeServer, status: int
) -> None:
    claude.script(Reply.error(status, retry_after=7, message="not now", headers={"x-should-retry": "false"}))
    claude.latency = 0.3
    with aicache.scope(tenant="acme") as calls:
        errors = together(asker, 10)

    assert claude.count == 1
    assert {call.status for call in calls} == {"error"}
    assert len({type(error) for error in errors}) == 1
    assert isinstance(errors[0], anthropic.APIStatusError)
    assert {error.status_code for error in errors} == {status}
    assert len({error.request_id for error in errors}) == 1
    assert errors[0].request_id
    assert {error.response.headers["retry-after"] for error in errors} == {"7"}
    assert {error.body["error"]["message"] for error in errors} == {"not now"}


@pytest.mark.parametrize("status", [429, 401, 403, 404])
@pytest.mark.usefixtures("aicache_isolated")
def test_an_error_of_a_credential_is_not_shared_with_another(claude: ClaudeServer, status: int) -> None:
    claude.answer = lambda received: (
        Reply.error(status, headers={"x-should-retry": "false"})
        if "poor" in str(received.headers)
        else Reply.text("welcome")
    )
    claude.latency = 0.3
    clients = [
        aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key=key, max_retries=0)) for key in ("poor", "rich")
    ]
    with aicache.scope(tenant="acme"):
        results = in_threads(10, lambda at: clients[at % 2].messages.create(**QUESTION))

    assert all(not isinstance(result, Exception) for result in results[1::2])
    # A poor caller gets its own error, or the answer that a rich one has paid.
    assert all(
        isinstance(result, anthropic.APIStatusError) or result.content[0].text == "welcome" for result in results[::2]
    )
    assert claude.count <= 4


def test_a_storm_of_overload_stays_a_few_calls(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.error(529)
    claude.latency = 0.3
    with aicache.scope(tenant="acme") as calls:
        errors = together(asker, 100, client={"max_retries": 2})

    assert {type(error) for error in errors} == {anthropic.OverloadedError}
    assert len(calls) == 100
    assert claude.count <= 6  # three rounds; without sharing it is 300
    assert claude.peak == 1


def test_after_a_storm_the_retries_share_the_answer(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529, retry_after=0.2), Reply.error(529, retry_after=0.2))
    claude.latency = 0.1
    with aicache.scope(tenant="acme") as calls:
        answers = together(asker, 50, client={"max_retries": 2})

    assert claude.count == 3
    assert len({answer.content[0].text for answer in answers}) == 1
    assert Counter(call.status for call in calls)["miss"] == 1


def test_a_failure_is_not_pinned_on_who_comes_later(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529), Reply.error(500))
    with aicache.scope(tenant="acme") as calls:
        for _ in range(2):
            with pytest.raises(anthropic.APIStatusError):
                asker.create()
        asker.create()

    assert [call.status for call in calls] == ["error", "error", "miss"]


def test_a_waiter_waits_as_long_as_its_own_timeout_and_then_asks_by_itself(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.text("slow"), Reply.text("quick"))
    claude.latency = 2.0

    def ask(at: int) -> Any:
        if at == 0:
            return asker.create()
        time.sleep(0.3)  # let the slow one lead
        claude.latency = 0.0
        began = time.monotonic()
        answer = asker.create(timeout=0.5)
        return answer, time.monotonic() - began

    with aicache.scope(tenant="acme") as calls:
        slow, (quick, took) = in_threads(2, ask)

    assert (slow.content[0].text, quick.content[0].text) == ("slow", "quick")
    assert 0.4 < took < 1.5
    assert Counter(call.reason for call in calls) == {"new": 1, "waited_out": 1}


def test_where_all_allow_the_same_time_a_timeout_is_one_for_all(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 1.5
    with aicache.scope(tenant="acme"):
        errors = together(asker, 10, timeout=0.5)

    assert {type(error) for error in errors} == {anthropic.APITimeoutError}
    assert claude.count == 1


def test_who_allows_more_time_does_not_suffer_from_who_allows_less(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 0.6

    def ask(at: int) -> Any:
        if at == 0:
            return asker.create(timeout=0.3)
        time.sleep(0.1)
        return asker.create(timeout=10)

    with aicache.scope(tenant="acme"):
        hasty, *patient = in_threads(4, ask)

    assert isinstance(hasty, anthropic.APITimeoutError)
    assert len({answer.content[0].text for answer in patient}) == 1
    assert claude.count == 2


def test_a_body_that_breaks_off_is_one_failure_for_all_who_wait(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.drop(after_bytes=20)
    claude.latency = 0.3

    def ask(client: Any) -> Any:
        with client.messages.with_streaming_response.create(**QUESTION) as response:
            return response.read()

    async def aask(client: Any) -> Any:
        async with client.messages.with_streaming_response.create(**QUESTION) as response:
            return await response.read()

    with aicache.scope(tenant="acme") as calls:
        errors = in_threads(10, lambda _: asker.run(ask if asker.colour == "sync" else aask))

    assert {type(error) for error in errors} == {anthropic.APIConnectionError}
    assert claude.count == 1
    assert {(call.status, call.reason) for call in calls} == {("error", "")}


def test_a_sync_call_inside_a_running_loop_waits_for_no_task_of_that_loop(
    claude: ClaudeServer, aicache_isolated: None
) -> None:
    claude.latency = 0.3

    async def main() -> aicache.Calls:
        options: dict[str, Any] = {"base_url": claude.url, "api_key": "k", "max_retries": 0, "timeout": 5}
        with aicache.wrap(anthropic.Anthropic(**options)) as blocking:
            async with aicache.wrap(anthropic.AsyncAnthropic(**options)) as client:
                with aicache.scope(tenant="acme") as calls:
                    task = asyncio.create_task(client.messages.create(**QUESTION))
                    while not claude.in_flight:
                        await asyncio.sleep(0.01)
                    blocking.messages.create(**QUESTION)
                    await task
        return calls

    assert [(call.status, call.reason) for call in asyncio.run(main())] == [("miss", "not_shared"), ("miss", "new")]


def test_a_cancelled_leader_hands_over_at_once(claude: ClaudeServer, aicache_isolated: None) -> None:
    claude.latency = 0.5

    async def main() -> tuple[Any, float, aicache.Calls]:
        client = aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0))
        with aicache.scope(tenant="acme") as calls:
            leader = asyncio.create_task(client.messages.create(**QUESTION))
            while not claude.in_flight:
                await asyncio.sleep(0.01)
            waiters = [asyncio.create_task(client.messages.create(**QUESTION)) for _ in range(5)]
            await asyncio.sleep(0.1)
            leader.cancel()
            began = time.monotonic()
            answers = await asyncio.gather(*waiters)
            with pytest.raises(asyncio.CancelledError):
                await leader
        await client.close()
        return answers, time.monotonic() - began, calls

    answers, took, calls = asyncio.run(main())

    assert len({answer.content[0].text for answer in answers}) == 1
    assert took < 2
    assert claude.count == 2
    assert ("error", "raised:CancelledError") in [(call.status, call.reason) for call in calls]


def test_a_cancelled_waiter_disturbs_nobody(claude: ClaudeServer, aicache_isolated: None) -> None:
    claude.latency = 0.5

    async def main() -> list[Any]:
        client = aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0))
        with aicache.scope(tenant="acme"):
            tasks = [asyncio.create_task(client.messages.create(**QUESTION)) for _ in range(10)]
            while not claude.in_flight:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            for task in tasks[5:]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        return results

    results = asyncio.run(main())

    assert claude.count == 1
    assert len({answer.content[0].text for answer in results[:5]}) == 1
    assert all(isinstance(result, asyncio.CancelledError) for result in results[5:])


def test_other_errors_of_the_leader_are_its_own(claude: ClaudeServer, aicache_isolated: None) -> None:
    class Exploding(anthropic.Middleware):
        def handle(self, request: Any, call_next: Any) -> Any:
            call_next(request)
            raise ZeroDivisionError

    claude.latency = 0.3
    wrapped = aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0))
    explodes = wrapped.with_middleware(Exploding())
    with aicache.scope(tenant="acme"), pytest.raises(ZeroDivisionError):
        explodes.messages.create(**QUESTION)
    with aicache.scope(tenant="acme") as calls:
        wrapped.messages.create(**QUESTION)

    assert [call.status for call in calls] == ["hit"]


def test_a_policy_that_waits_for_nobody_calls_at_once(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 0.2
    with override_settings(AICACHE={"POLICIES": {"now": {"wait": 0}}, "NAMESPACE": "now" + asker.colour}):
        with aicache.scope(tenant=claude.url, policy="now"):
            together(asker, 4)

    assert claude.count == 4
