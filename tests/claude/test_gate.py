"""The prompt-cache gate, as a caller meets it: who leads, who waits, who goes by, and what is said of it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from typing import Any

import anthropic
import pytest
from django.conf import settings
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.testing import ClaudeServer, Reply
from aicache.testing.isolation import isolated
from tests.claude.conftest import Asker
from tests.claude.gating import at_once, gated, prompted, waiting, writes
from tests.claude.prompts import EPHEMERAL, MODEL, lag, policies, question, report, system
from tests.claude.together import auntil, in_threads, until

MANY = 12


class TestTheReport:
    """Two calls in a row with one prefix: where it is not readable at once, the second writes it again."""

    def test_comes_about_without_the_gate(self, claude: ClaudeServer) -> None:
        claude.promptcache.lag = lag(seed=1)
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            found = report(claude, aicache.wrap(plain), 60)
            counted = prompted()

        assert 12 <= found.redundant <= 36  # 24 of 60 are to be expected; 3 standard deviations
        assert found.waited == 0
        assert {call.prompt_cache for call in found.calls} == {"off"}
        assert counted["redundant_writes"] == found.redundant
        assert counted["writes"] == 60 + found.redundant
        assert counted["reads"] == 60 - found.redundant
        assert counted.usd("redundant") > 0
        assert counted.prompt_net_usd == -counted.usd("redundant")

    @pytest.mark.slow
    def test_is_cured_by_a_fixed_settle(self, claude: ClaudeServer) -> None:
        claude.promptcache.lag = lambda: 1.9
        with gated(settle=2.0), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            found = report(claude, aicache.wrap(plain), 2, "gated")
            counted = prompted()

        assert found.redundant == counted["redundant_writes"] == 0
        assert [call.prompt_cache for call in found.calls] == ["lead", "wait"] * 2
        assert all(1.9 < call.waited < 2.1 for call in found.calls if call.prompt_cache == "wait")
        assert counted["gate_waits"] == 2
        assert counted["gate_waited_ms"] / 1000 == pytest.approx(found.waited, abs=0.01)

    @pytest.mark.slow
    def test_is_cured_once_the_lag_is_learned(self, claude: ClaudeServer) -> None:
        claude.promptcache.lag = 1.0
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            found = report(claude, aicache.wrap(plain), 3, "gated")
            counted = prompted()

        assert found.redundant == counted["redundant_writes"] == 1  # the first
        assert [call.prompt_cache for call in found.calls] == ["lead", "open", "lead", "wait", "lead", "wait"]
        assert counted.usd("gate") > 0

    def test_needs_no_cure_where_there_is_no_lag(self, claude: ClaudeServer) -> None:
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            found = report(claude, aicache.wrap(plain), 20, "gated")

        assert found.redundant == 0
        assert found.waited == 0
        assert [call.prompt_cache for call in found.calls] == ["lead", "open"] * 20


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_of_parallel_calls_one_writes_and_the_others_read(asker: Asker, claude: ClaudeServer, stream: bool) -> None:
    prefix = system()
    claude.latency = 0.3
    with gated():
        with aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(MANY)], stream=stream)
        counted = prompted()

    assert writes(answers) == 1
    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": MANY - 1}
    assert {call.status for call in calls} == {"miss"}
    assert all((call.waited > 0) == (call.prompt_cache == "wait") for call in calls)
    assert (counted["writes"], counted["reads"], counted["redundant_writes"]) == (1, MANY - 1, 0)
    assert counted["gate_waits"] == MANY - 1
    assert counted.usd("gate") == counted.prompt_net_usd > 0


def test_measured_parallel_calls_wait_for_nobody_and_are_counted(asker: Asker, claude: ClaudeServer) -> None:
    prefix = system()
    claude.latency = 0.3
    with gated():
        with aicache.scope(tenant="acme", policy="default") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(MANY)])
        counted = prompted()

    assert writes(answers) == MANY
    assert claude.peak == MANY
    assert {(call.prompt_cache, call.waited) for call in calls} == {("off", 0.0)}
    assert counted["redundant_writes"] == MANY - 1
    assert counted["redundant_tokens"] == (MANY - 1) * answers[0].usage.cache_creation_input_tokens


TOOL: dict[str, Any] = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": ({}, {"model": "claude-opus-5"}),
    "tool list": ({"tools": [TOOL]}, {"tools": [TOOL, {**TOOL, "name": "see"}]}),
    "tool_choice": ({"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": {"type": "none"}}),
    "thinking": ({}, {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}),
    "effort": ({}, {"output_config": {"effort": "low"}}),
    "speed": ({}, {"extra_body": {"speed": "fast"}}),
    "betas": ({}, {"extra_headers": {"anthropic-beta": "one-2026-01-01"}}),
    "workspace": (
        {"extra_headers": {"anthropic-workspace-id": "wrkspc_1"}},
        {"extra_headers": {"anthropic-workspace-id": "wrkspc_2"}},
    ),
}


@pytest.mark.parametrize(("one", "other"), APART.values(), ids=APART)
def test_what_parts_prefixes_parts_those_who_wait(
    asker: Asker, claude: ClaudeServer, one: dict[str, Any], other: dict[str, Any]
) -> None:
    prefix = system()
    both = threading.Barrier(2, timeout=30)
    claude.answer = lambda received: (both.wait(), Reply.text("Both are there."))[1]  # type: ignore[func-returns-value]
    with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated") as calls:
        answers = at_once(asker, [question("1", system=prefix, **one), question("2", system=prefix, **other)])

    assert all(isinstance(answer, anthropic.types.Message) for answer in answers), answers
    assert [call.prompt_cache for call in calls] == ["lead", "lead"]


def test_credentials_of_two_workspaces_wait_for_nobody_unless_they_are_said_to_be_one(claude: ClaudeServer) -> None:
    def ask(at: int) -> Any:
        with anthropic.Anthropic(base_url=claude.url, api_key=f"key {at}") as plain:
            return aicache.wrap(plain).messages.create(**question(f"{at}", system=prefix))

    claude.latency = 0.3
    for name, expected in (("", {"lead": 2}), ("ours", {"lead": 1, "wait": 1})):
        prefix = system()
        chosen = {**settings.AICACHE, "POLICIES": policies(settle="adaptive"), "WORKSPACE": name}
        with override_settings(AICACHE=chosen), isolated():
            with aicache.scope(tenant="acme", policy="gated") as calls:
                in_threads(2, ask)
        assert Counter(call.prompt_cache for call in calls) == expected


def test_tenants_wait_for_each_other_and_are_counted_apart(claude: ClaudeServer) -> None:
    prefix = system()
    claude.latency = 0.3

    def ask(at: int) -> Any:
        with aicache.scope(tenant=f"tenant {at}", policy="gated") as calls:
            client.messages.create(**question("the same", system=prefix))
        return calls.last

    with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
        client = aicache.wrap(plain)
        calls = in_threads(2, ask)
        counted = [prompted(f"tenant {at}") for at in range(2)]

    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": 1}
    assert [one["writes"] + one["reads"] for one in counted] == [1, 1]
    assert sum(one["writes"] for one in counted) == 1


class TestAStreamingLeader:
    def test_lets_the_others_go_before_it_has_ended_or_its_caller_reads(self, claude: ClaudeServer) -> None:
        prefix = system()
        ended = threading.Event()
        claude.script(Reply.text("A long answer. " * 20, gate=lambda number: number < 2 or ended.is_set()))
        with gated(max_wait=60), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme", policy="gated") as calls:
                stream = client.messages.create(**question("first", system=prefix), stream=True)
                second = client.messages.create(**question("second", system=prefix))
                ended.set()
                events = list(stream)

        assert second.usage.cache_read_input_tokens > 0
        assert events[-1].type == "message_stop"
        assert sorted(call.prompt_cache for call in calls) == ["lead", "open"]

    def test_whose_stream_breaks_off_before_its_message_begins_passes_the_lead_on(self, claude: ClaudeServer) -> None:
        prefix = system()
        claude.script(Reply.drop(1))
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0) as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme", policy="gated") as calls:
                with pytest.raises(Exception, match=r"closed|read"):
                    list(client.messages.create(**question("first", system=prefix), stream=True))
                client.messages.create(**question("second", system=prefix))

        assert [call.prompt_cache for call in calls] == ["lead", "lead"]
        assert calls.last is not None
        assert calls.last.waited == 0


class TestAPlainLeader:
    def test_lets_the_others_go_before_its_end(self, asker: Asker, claude: ClaudeServer) -> None:
        """It is made as a stream, and its caller notices nothing."""
        prefix = system()
        second = threading.Event()

        def answer(received: Any) -> Reply:
            if "first" in received.text:
                return Reply.text("A long answer. " * 20, gate=lambda number: number < 2 or second.is_set())
            second.set()
            return Reply.text("Short.")

        claude.answer = answer
        with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated"):
            requests = [question("first", system=prefix), question("second", system=prefix)]
            if asker.colour == "sync":
                with asker.client() as client:
                    answers: list[Any] = []
                    lead = contextvars.copy_context().run
                    first = lambda: answers.append(client.messages.create(**requests[0]))  # noqa: E731
                    led = threading.Thread(target=lead, args=(first,))
                    led.start()
                    until(lambda: claude.count == 1, "nobody leads")
                    answers.append(client.messages.create(**requests[1]))
                    led.join()
            else:

                async def both(client: Any) -> list[Any]:
                    leading = asyncio.ensure_future(client.messages.create(**requests[0]))
                    await auntil(lambda: claude.count == 1, "nobody leads")
                    return [await client.messages.create(**requests[1]), await leading]

                answers = asker.run(both)

        assert sorted(answer.content[0].text[:6] for answer in answers) == ["A long", "Short."]
        assert claude.calls[0].body.get("stream") is True
        assert claude.calls[1].body.get("stream") is not True

    def test_answers_as_if_it_had_not_been_streamed(self, asker: Asker, claude: ClaudeServer) -> None:
        blocks = [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Grüße 🎉 and more"},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, {"b": None}]}},
        ]
        fixed = {"stop_reason": "tool_use", "id": "msg_1", "headers": {"request-id": "req_1", "x-own": "kept"}}
        claude.answer = lambda received: Reply.blocks(blocks, output_tokens=7, **fixed)
        asked = question("one", system=system(mark="same"), tools=[TOOL])

        def raw(client: Any) -> Any:
            return client.messages.with_raw_response.create(**asked)

        found = {}
        for policy in ("default", "gated"):
            with gated(), aicache.scope(tenant="acme", policy=policy) as calls:
                response = asker.run(raw)
                message = response.parse() if asker.colour == "sync" else asyncio.run(_parsed(response))
            claude.promptcache.reset()
            found[policy] = message.model_dump(), response.headers["x-own"], message._request_id
            assert response.headers["content-type"].startswith("application/json")
            assert "transfer-encoding" not in response.headers or policy == "default"
            assert calls.last is not None
            assert calls.last.prompt_cache == {"default": "off", "gated": "lead"}[policy]
        assert found["gated"] == found["default"]
        assert [bool(call.body.get("stream")) for call in claude.calls] == [False, True]

    def test_is_stored_as_any_other(self, asker: Asker, claude: ClaudeServer) -> None:
        asked = question("one", system=system())
        with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
            first, again = (asker.create(**asked) for _ in range(2))

        assert claude.count == 1
        assert first.model_dump() == again.model_dump()
        assert [(call.status, call.prompt_cache) for call in calls] == [("miss", "lead"), ("hit", "off")]
        assert aicache.info(first).prompt_cache == "lead"

    @pytest.mark.parametrize(
        ("kind", "raised"),
        [("overloaded_error", anthropic.APIStatusError), ("rate_limit_error", anthropic.RateLimitError)],
    )
    def test_whose_stream_says_an_error_raises_what_a_plain_call_would(
        self, asker: Asker, claude: ClaudeServer, kind: str, raised: type[Exception]
    ) -> None:
        event = f'event: error\ndata: {{"type":"error","error":{{"type":"{kind}","message":"Oh."}}}}\n\n'
        claude.script(Reply.raw(200, {"content-type": "text/event-stream"}, event.encode()))
        with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
            with pytest.raises(raised, match="Oh"):
                asker.create(**question("one", system=system()))
        assert calls.last is not None
        assert (calls.last.status, calls.last.prompt_cache) == ("error", "lead")

    def test_whose_stream_breaks_off_is_tried_again_as_a_plain_call_is(
        self, asker: Asker, claude: ClaudeServer
    ) -> None:
        claude.script(Reply.drop(700))
        with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
            answer = asker.create(client={"max_retries": 1}, **question("one", system=system()))

        assert answer.content[0].text
        assert claude.count == 2
        assert [call.status for call in calls] == ["miss"]

    def test_of_what_cannot_be_put_together_again_is_made_anew(self, asker: Asker, claude: ClaudeServer) -> None:
        odd = [{"type": "text", "text": "x"}, {"type": "of_the_future", "deltas": 1}]
        told = _events(odd)
        claude.script(Reply.raw(200, {"content-type": "text/event-stream"}, told), Reply.text("Plain."))
        with gated(), aicache.scope(tenant="acme", policy="gated"):
            answer = asker.create(**question("one", system=system()))

        assert answer.content[0].text == "Plain."
        assert [bool(call.body.get("stream")) for call in claude.calls] == [True, False]


async def _parsed(response: Any) -> Any:
    found = response.parse()
    return await found if asyncio.iscoroutine(found) else found


def _events(blocks: list[dict[str, Any]]) -> bytes:
    """A stream with a delta that nobody knows."""
    from aicache.testing.messages import encode, events, message

    told = events(message(Reply.blocks(blocks), {"model": MODEL, "max_tokens": 100}, {"input_tokens": 3}))
    odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "delta_of_the_future", "x": 1}}
    return b"".join(map(encode, [*told[:3], odd, *told[3:]]))


@pytest.mark.parametrize("leader", ["plain", "prewarm"])
def test_a_leader_may_be_plain_or_be_preceded_by_a_prewarm(asker: Asker, claude: ClaudeServer, leader: str) -> None:
    prefix = system()
    claude.latency = 0.3
    with gated(leader=leader):
        with aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(5)])
        counted = prompted()

    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": 4}
    assert not any(call.body.get("stream") for call in claude.calls)
    prewarms = [call for call in claude.calls if call.body["max_tokens"] == 0]
    assert len(prewarms) == (leader == "prewarm")
    assert writes(answers) == (leader == "plain")
    assert (counted["writes"], counted["redundant_writes"]) == (1, 0)
    assert counted["reads"] == 4 + len(prewarms)
    assert all(answer.content[0].text for answer in answers)


def test_a_prewarm_that_is_refused_costs_its_caller_nothing(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(400, message="max_tokens: 0 is not allowed with thinking"))
    with gated(leader="prewarm"), aicache.scope(tenant="acme", policy="gated") as calls:
        answer = asker.create(**question("one", system=system()))

    assert answer.content[0].text
    assert [(call.status, call.prompt_cache) for call in calls] == [("miss", "lead")]


def test_a_prewarm_whose_call_fails_is_counted_once_and_costs_what_it_cost(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.text("Warm."), Reply.error(529))
    with gated(leader="prewarm"):
        with aicache.scope(tenant="acme", policy="gated"), pytest.raises(anthropic.APIStatusError):
            asker.create(**question("one", system=system()))
        counted = prompted()

    assert (counted["writes"], counted["reads"]) == (1, 0)
    assert counted.usd("gate") < 0


class TestNobodyWaits:
    def test_longer_than_max_wait(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 1.5
        with gated(max_wait=0.2), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(3)])

        assert writes(answers) == 3
        waits = sorted(call.waited for call in calls)
        assert waits[0] == 0
        assert all(0.2 <= wait < 0.8 for wait in waits[1:])

    def test_for_less_than_it_is_worth(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 0.5
        with gated(latency_value=1000.0), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(3)])

        assert writes(answers) == 3
        assert all(call.waited < 0.1 for call in calls)

    def test_at_a_price_that_nobody_knows(self, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 0.3
        for value, expected in ((0.01, 2), (0.0, 1)):
            claude.promptcache.reset()
            with gated(latency_value=value), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
                client, model = aicache.wrap(plain), "claude-sonnet-5-of-the-far-future"
                with aicache.scope(tenant="acme", policy="gated"):
                    ask = [question(f"{at}", system=prefix, model=model) for at in range(2)]
                    answers = in_threads(2, lambda at: client.messages.create(**ask[at]))  # noqa: B023
            assert writes(answers) == expected

    def test_for_itself(self, claude: ClaudeServer) -> None:
        """A call that is made in the course of another one, with the same prefix."""
        prefix = system()

        def nosy(request: Any, call_next: Any) -> Any:
            if "outer" in str(request.json):
                client.messages.create(**question("inner", system=prefix))
            return call_next(request)

        with gated(max_wait=60), anthropic.Anthropic(base_url=claude.url, api_key="k", middleware=[nosy]) as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme", policy="gated") as calls:
                client.messages.create(**question("outer", system=prefix))

        assert all(call.waited == 0 for call in calls)

    def test_in_a_thread_whose_event_loop_has_the_leader(self, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 0.3

        async def both() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                leading = asyncio.ensure_future(aicache.wrap(plain).messages.create(**question("1", system=prefix)))
                await auntil(lambda: claude.count == 1, "nobody leads")
                with anthropic.Anthropic(base_url=claude.url, api_key="k") as other:
                    aicache.wrap(other).messages.create(**question("2", system=prefix))
                await leading

        with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated") as calls:
            asyncio.run(both())

        assert {call.waited for call in calls} == {0.0}

    def test_while_the_cache_is_switched_off(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 0.3
        with gated():
            get_cache().store.switch(on=False)
            with aicache.scope(tenant="acme", policy="gated") as calls:
                at_once(asker, [question(f"{at}", system=prefix) for at in range(3)])
            with aicache.scope(tenant="acme", policy="gated", bypass=True) as bypassed:
                at_once(asker, [question(f"{at}", system=prefix) for at in range(3)])

        assert {(call.prompt_cache, call.waited) for call in (*calls, *bypassed)} == {("off", 0.0)}

    def test_for_a_prefix_that_turned_out_to_be_too_short(self, claude: ClaudeServer) -> None:
        prefix = system()
        claude.promptcache.minimum = 100_000
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme", policy="gated") as calls:
                for at in range(3):
                    client.messages.create(**question(f"{at}", system=prefix))

        assert [call.prompt_cache for call in calls] == ["lead", "off", "off"]


def test_a_leader_that_is_cancelled_passes_the_lead_on(claude: ClaudeServer) -> None:
    prefix = system()
    claude.script(Reply.text("Never.", latency=60))

    async def both() -> None:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)
            leading = asyncio.ensure_future(client.messages.create(**question("1", system=prefix)))
            await auntil(lambda: claude.count == 1, "nobody leads")
            others = [asyncio.ensure_future(client.messages.create(**question(f"o{at}", system=prefix))) for at in "12"]
            await auntil(lambda: waiting() == 2, "nobody waits")
            leading.cancel()
            await asyncio.gather(*others)

    with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated") as calls:
        asyncio.run(both())

    told = [(call.status, call.prompt_cache) for call in calls]
    assert Counter(told) == {("error", "off"): 1, ("miss", "wait"): 2}
    assert all(call.waited < 3 for call in calls)


def test_calls_that_pass_the_cache_by_wait_and_are_counted_too(asker: Asker, claude: ClaudeServer) -> None:
    prefix = system()
    claude.latency = 0.3
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    for stream in (False, True):
        claude.promptcache.reset()
        with gated():
            with aicache.scope(tenant="acme", policy="gated") as calls:
                requests = [question(f"{at}", system=prefix, tools=tools) for at in range(4)]
                answers = at_once(asker, requests, stream=stream)
            counted = prompted()
        assert writes(answers) == 1
        assert {(call.status, call.reason.partition(":")[0]) for call in calls} == {("bypass", "server_tool")}
        assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": 3}
        assert (counted["writes"], counted["reads"]) == (1, 3)


def test_longer_prefixes_build_on_shorter_ones(claude: ClaudeServer) -> None:
    """Whose own end nobody shares waits for the beginning that all share."""
    prefix = system()
    claude.latency = 0.3
    with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
        client = aicache.wrap(plain)
        with aicache.scope(tenant="acme", policy="auto") as calls:
            ask = [question(f"{at} " + "and so on " * 1000, system=prefix) for at in range(6)]
            answers = in_threads(6, lambda at: client.messages.create(**ask[at]))

    shared = max(answer.usage.cache_read_input_tokens for answer in answers)
    assert sorted(answer.usage.cache_read_input_tokens for answer in answers) == [0, *[shared] * 5]
    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": 5}


def test_breakpoints_are_placed_where_the_policy_says_so(asker: Asker, claude: ClaudeServer) -> None:
    asked = question("hello", system="A system prompt.", tools=[TOOL])
    with gated(), aicache.scope(tenant="acme", policy="auto"):
        asker.create(**asked)
        asker.create(**asked)

    (sent,) = claude.calls
    assert sent.body["system"] == [{"type": "text", "text": "A system prompt.", "cache_control": EPHEMERAL}]
    assert sent.body["tools"] == [{**TOOL, "cache_control": EPHEMERAL}]
    assert sent.body["messages"][0]["content"] == [{"type": "text", "text": "hello", "cache_control": EPHEMERAL}]


def test_what_the_provider_says_of_a_miss_is_told_and_counted(asker: Asker, claude: ClaudeServer) -> None:
    told = {"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": 900}}
    claude.answer = lambda received: Reply.text("Hello.", diagnostics=told)
    with gated():
        with aicache.scope(tenant="acme") as calls:
            asker.create(**question("1", system=system(), extra_body={"diagnostics": {"previous_message_id": "msg_0"}}))
        counted = prompted()

    assert calls.last is not None
    assert calls.last.cache_miss_reason == "system_changed"
    assert counted.missed == {"system_changed": 1}


def test_the_same_answer_under_an_idempotency_key_is_gated_once(asker: Asker, claude: ClaudeServer) -> None:
    prefix = system()
    with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
        asker.create(**question("1", system=prefix), extra_headers={"Idempotency-Key": "k1"})
        asker.create(**question("1", system=prefix), extra_headers={"Idempotency-Key": "k1"})

    assert [call.prompt_cache for call in calls] == ["lead", "off"]
