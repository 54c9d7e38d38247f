"""One upstream call for any number of simultaneous duplicates, and what becomes of them when it goes wrong."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import anthropic
import pytest
from django.test import override_settings

import aicache
from aicache.store.leases import LEASE
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import PATIENCE, auntil, held, in_threads, together, until, waiting

MANY = 40


def test_simultaneous_duplicates_are_one_call(asker: Asker, claude: ClaudeServer) -> None:
    began = time.monotonic()
    with aicache.scope(tenant="acme") as calls, held(claude, (1, MANY - 1)):
        answers = together(asker, MANY)
    took = time.monotonic() - began

    assert claude.count == 1
    assert len({answer.content[0].text for answer in answers}) == 1
    assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": MANY - 1}
    waits = [call.waited for call in calls if call.status == "coalesced"]
    assert all(0 < wait < took for wait in waits)


def test_duplicates_of_two_tenants_are_two_calls(asker: Asker, claude: ClaudeServer) -> None:
    def ask(at: int) -> Any:
        with aicache.scope(tenant=("acme", "globex")[at % 2]):
            return asker.create()

    with held(claude, (2, 14)):
        answers = in_threads(16, ask)

    assert claude.count == 2
    assert len({answer.content[0].text for answer in answers[::2]}) == 1
    assert len({answer.content[0].text for answer in answers[1::2]}) == 1
    assert answers[0].content[0].text != answers[1].content[0].text


def test_bypassed_duplicates_share_nothing(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme", bypass=True), held(claude, (5, 0)):
        together(asker, 5)

    assert claude.count == 5


def test_refreshing_duplicates_are_one_call(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme"):
        old = asker.create()
        with aicache.scope(refresh=True), held(claude, (1, 9)):
            answers = together(asker, 10)

    assert claude.count == 2
    assert {answer.content[0].text for answer in answers}.isdisjoint({old.content[0].text})


def test_an_answer_that_calls_a_tool_is_for_its_own_caller_and_the_others_ask_at_once(
    asker: Asker, claude: ClaudeServer
) -> None:
    claude.answer = lambda _: Reply.tool_use("refund", {"order": 1})
    with aicache.scope(tenant="acme") as calls, held(claude, (1, 9), (9, 0)):  # two rounds, not ten
        together(asker, 10)

    assert claude.count == 10
    assert claude.peak == 9
    assert Counter(call.reason for call in calls) == {"stop_reason:tool_use": 1, "not_shared": 9}
    assert {call.status for call in calls} == {"miss"}


def test_a_tool_call_is_shared_where_the_policy_says_so(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.tool_use("refund", {"order": 1})
    policies = {"tools": {"store_tool_use": True}}
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(tenant="acme", policy="tools"), held(claude, (1, 9)):
            together(asker, 10)

    assert claude.count == 1


def test_a_truncated_answer_is_shared_with_those_who_wait_and_not_kept(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("long " * 400)
    with aicache.scope(tenant="acme") as calls:
        with held(claude, (1, 4)):
            together(asker, 5)
        assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 4}
        asker.create()

    assert claude.count == 2
    assert not any(call.stored for call in calls)
    assert calls.last is not None
    assert calls.last.status == "miss"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 529])
def test_those_who_wait_get_the_error_with_its_type_headers_and_request_id(
    asker: Asker, claude: ClaudeServer, status: int
) -> None:
    error = Reply.error(status, retry_after=7, message="not now", headers={"x-should-retry": "false"})
    with aicache.scope(tenant="acme") as calls, held(claude, (1, 9), replies=[error]):
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


@pytest.mark.parametrize("leader", ["poor", "rich"])
@pytest.mark.parametrize("status", [429, 401, 403, 404])
@pytest.mark.usefixtures("aicache_isolated")
def test_an_error_of_a_credential_is_not_shared_with_another(claude: ClaudeServer, status: int, leader: str) -> None:
    claude.answer = lambda received: (
        Reply.error(status, headers={"x-should-retry": "false"})
        if "poor" in str(received.headers)
        else Reply.text("welcome")
    )
    keys = ("poor", "rich") if leader == "poor" else ("rich", "poor")
    clients = [aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key=key, max_retries=0)) for key in keys]

    with aicache.scope(tenant="acme"), held(claude, (1, 9)):
        results = after_the_leader(claude, 10, lambda at: clients[at % 2].messages.create(**QUESTION))

    of_the_leader, of_the_others = results[::2], results[1::2]
    assert [other.content[0].text for other in of_the_others] == ["welcome"] * 5
    if leader == "rich":
        assert [result.content[0].text for result in of_the_leader] == ["welcome"] * 5
    else:  # a poor caller gets its own error
        assert [type(result) for result in of_the_leader] == [type(of_the_leader[0])] * 5
        assert isinstance(of_the_leader[0], anthropic.APIStatusError)
        assert of_the_leader[0].status_code == status
    assert claude.count == (1 if leader == "rich" else 2)


def test_a_storm_of_overload_stays_a_few_calls(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.error(529)
    with aicache.scope(tenant="acme") as calls, held(claude, *[(1, 99)] * 3):
        errors = together(asker, 100, client={"max_retries": 2})

    assert {type(error) for error in errors} == {anthropic.OverloadedError}
    assert len(calls) == 100
    assert claude.count == 3  # three rounds; without sharing it is 300
    assert claude.peak == 1


def test_after_a_storm_the_retries_share_the_answer(asker: Asker, claude: ClaudeServer) -> None:
    errors = [Reply.error(529, retry_after=0.2)] * 2
    with aicache.scope(tenant="acme") as calls, held(claude, *[(1, 49)] * 3, replies=errors):
        answers = together(asker, 50, client={"max_retries": 2})

    assert claude.count == 3
    assert len({answer.content[0].text for answer in answers}) == 1
    assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 49}


def test_a_failure_is_not_pinned_on_who_comes_later(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529), Reply.error(500))
    with aicache.scope(tenant="acme") as calls:
        for _ in range(2):
            with pytest.raises(anthropic.APIStatusError):
                asker.create()
        asker.create()

    assert [call.status for call in calls] == ["error", "error", "miss"]


class Stuck:
    """The first call is answered when the test is over, or says so; the others at once."""

    def __init__(self, claude: ClaudeServer) -> None:
        self.waited = 0  # for the first call, at most at once
        self._released = threading.Event()
        claude.answer = self._answer

    def _answer(self, received: Received) -> Reply:
        if received.number > 1:
            return Reply.text("quick")
        while not self._released.wait(0.005):
            self.waited = max(self.waited, waiting())
        return Reply.text("slow")

    def release(self) -> None:
        self._released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def after_the_leader(claude: ClaudeServer, many: int, act: Callable[[int], Any]) -> list[Any]:
    """As ``in_threads``, where the first one leads."""

    def ask(at: int) -> Any:
        if at:
            until(lambda: claude.count, "nobody leads")
        return act(at)

    return in_threads(many, ask)


def each_with_its_timeout(asker: Asker, claude: ClaudeServer, *timeouts: float) -> list[Any]:
    """One caller for each; the first one leads."""
    return after_the_leader(claude, len(timeouts), lambda at: asker.create(timeout=timeouts[at]))


def test_a_waiter_waits_as_long_as_its_own_timeout_and_then_asks_by_itself(asker: Asker, claude: ClaudeServer) -> None:
    with Stuck(claude) as stuck:

        def ask(at: int) -> Any:
            if at == 0:
                return asker.create()
            began = time.monotonic()
            try:
                return asker.create(timeout=1.0), time.monotonic() - began
            finally:
                stuck.release()

        with aicache.scope(tenant="acme") as calls:
            slow, (quick, took) = after_the_leader(claude, 2, ask)

    assert (slow.content[0].text, quick.content[0].text) == ("slow", "quick")
    assert took > 0.9
    assert Counter(call.reason for call in calls) == {"new": 1, "waited_out": 1}


# An attempt with more and more time, until the others came while the leader was still at it.
MORE_AND_MORE = (0.3, 1.5, 7.0)


def test_where_all_allow_the_same_time_a_timeout_is_one_for_all(asker: Asker, claude: ClaudeServer) -> None:
    for seconds in MORE_AND_MORE:
        claude.reset()
        with Stuck(claude) as stuck, aicache.scope(tenant=f"allows {seconds} s"):
            errors = each_with_its_timeout(asker, claude, *[seconds] * 10)
        if stuck.waited == 9:
            break
    assert stuck.waited == 9

    assert {type(error) for error in errors} == {anthropic.APITimeoutError}
    assert claude.count == 1


def test_who_allows_more_time_does_not_suffer_from_who_allows_less(asker: Asker, claude: ClaudeServer) -> None:
    for seconds in MORE_AND_MORE:
        claude.reset()
        with Stuck(claude) as stuck, aicache.scope(tenant=f"allows {seconds} s"):
            hasty, *patient = each_with_its_timeout(asker, claude, seconds, PATIENCE, PATIENCE, PATIENCE)
        assert isinstance(hasty, anthropic.APITimeoutError)
        assert [answer.content[0].text for answer in patient] == ["quick"] * 3
        assert claude.count == 2
        if stuck.waited == 3:
            break
    assert stuck.waited == 3


def test_a_body_that_breaks_off_is_one_failure_for_all_who_wait(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.drop(after_bytes=20)

    def ask(client: Any) -> Any:
        with client.messages.with_streaming_response.create(**QUESTION) as response:
            return response.read()

    async def aask(client: Any) -> Any:
        async with client.messages.with_streaming_response.create(**QUESTION) as response:
            return await response.read()

    with aicache.scope(tenant="acme") as calls, held(claude, (1, 9)):
        errors = in_threads(10, lambda _: asker.run(ask if asker.colour == "sync" else aask))

    assert {type(error) for error in errors} == {anthropic.APIConnectionError}
    assert claude.count == 1
    assert {(call.status, call.reason) for call in calls} == {("error", "")}


def test_a_sync_call_inside_a_running_loop_waits_for_no_task_of_that_loop(
    claude: ClaudeServer, aicache_isolated: None
) -> None:
    async def main() -> aicache.Calls:
        options: dict[str, Any] = {"base_url": claude.url, "api_key": "k", "max_retries": 0, "timeout": PATIENCE}
        with aicache.wrap(anthropic.Anthropic(**options)) as blocking:
            async with aicache.wrap(anthropic.AsyncAnthropic(**options)) as client:
                with aicache.scope(tenant="acme") as calls:
                    task = asyncio.create_task(client.messages.create(**QUESTION))
                    await auntil(lambda: claude.count, "nobody leads")
                    blocking.messages.create(**QUESTION)
                    await task
        return calls

    with held(claude, (2, 0)):
        calls = asyncio.run(main())

    assert [(call.status, call.reason) for call in calls] == [("miss", "not_shared"), ("miss", "new")]


def test_a_cancelled_leader_hands_over_at_once(claude: ClaudeServer, aicache_isolated: None) -> None:
    async def main() -> tuple[Any, float, aicache.Calls]:
        client = aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0))
        with aicache.scope(tenant="acme") as calls:
            leader = asyncio.create_task(client.messages.create(**QUESTION))
            await auntil(lambda: claude.count, "nobody leads")
            waiters = [asyncio.create_task(client.messages.create(**QUESTION)) for _ in range(5)]
            await auntil(lambda: waiting() == 5, "nobody waits")
            leader.cancel()
            began = time.monotonic()
            answers = await asyncio.gather(*waiters)
            with pytest.raises(asyncio.CancelledError):
                await leader
        await client.close()
        return answers, time.monotonic() - began, calls

    with Stuck(claude):
        answers, took, calls = asyncio.run(main())

    assert [answer.content[0].text for answer in answers] == ["quick"] * 5
    assert took < LEASE / 2  # not only once its lease has ended
    assert claude.count == 2
    assert ("error", "raised:CancelledError") in [(call.status, call.reason) for call in calls]


def test_a_cancelled_waiter_disturbs_nobody(claude: ClaudeServer, aicache_isolated: None) -> None:
    async def main(stuck: Stuck) -> list[Any]:
        client = aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0))
        with aicache.scope(tenant="acme"):
            tasks = [asyncio.create_task(client.messages.create(**QUESTION))]
            await auntil(lambda: claude.count, "nobody leads")
            tasks += [asyncio.create_task(client.messages.create(**QUESTION)) for _ in range(9)]
            await auntil(lambda: waiting() == 9, "nobody waits")
            for task in tasks[5:]:
                task.cancel()
            await asyncio.wait(tasks[5:])
            stuck.release()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        return results

    with Stuck(claude) as stuck:
        results = asyncio.run(main(stuck))

    assert claude.count == 1
    assert [result.content[0].text for result in results[:5]] == ["slow"] * 5
    assert all(isinstance(result, asyncio.CancelledError) for result in results[5:])


def test_other_errors_of_the_leader_are_its_own(claude: ClaudeServer, aicache_isolated: None) -> None:
    class Exploding(anthropic.Middleware):
        def handle(self, request: Any, call_next: Any) -> Any:
            call_next(request)
            raise ZeroDivisionError

    wrapped = aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0))
    explodes = wrapped.with_middleware(Exploding())
    with aicache.scope(tenant="acme"), pytest.raises(ZeroDivisionError):
        explodes.messages.create(**QUESTION)
    with aicache.scope(tenant="acme") as calls:
        wrapped.messages.create(**QUESTION)

    assert [call.status for call in calls] == ["hit"]


def test_a_policy_that_waits_for_nobody_calls_at_once(asker: Asker, claude: ClaudeServer) -> None:
    with override_settings(AICACHE={"POLICIES": {"now": {"wait": 0}}, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(tenant="acme", policy="now"), held(claude, (4, 0)):
            together(asker, 4)

    assert claude.count == 4
