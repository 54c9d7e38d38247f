"""Upstreams, callers and sites that are not as one would expect, at the prompt-cache gate."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import anthropic
import httpx2
import pytest
from django.test import override_settings

import aicache
from aicache.claude import middleware
from aicache.testing import ClaudeServer, Reply
from aicache.testing.messages import compact, message
from aicache.testing.received import Received
from tests.claude.conftest import Asker
from tests.claude.gating import at_once, gated, prompted, waiting, writes
from tests.claude.prompts import MODEL, question, system
from tests.claude.together import auntil

STREAM = {"content-type": "text/event-stream"}


def plainly(received: Received, **usage: int) -> Reply:
    """The whole message as JSON, whatever was asked for."""
    whole = message(Reply.text("Plain."), received.body, {"input_tokens": 3, **usage})
    return Reply.raw(200, {"content-type": "application/json"}, compact(whole))


class TestAnUpstreamThatDoesNotStream:
    def test_is_taken_at_its_word_where_it_answers_plainly(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda received: plainly(received, cache_creation_input_tokens=1300)
        with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = [asker.create(**question(f"{at}", system=system())) for at in range(2)]

        assert [answer.content[0].text for answer in answers] == ["Plain."] * 2
        assert [(call.status, call.prompt_cache, call.stored) for call in calls] == [("miss", "lead", True)] * 2
        assert [bool(call.body.get("stream")) for call in claude.calls] == [True, False]  # it is not asked again

    @pytest.mark.parametrize("status", [400, 403, 405])
    def test_is_asked_plainly_where_it_refuses(self, asker: Asker, claude: ClaudeServer, status: int) -> None:
        claude.answer = lambda received: (
            Reply.error(status, message="No streams.") if received.body.get("stream") else Reply.text("Plain.")
        )
        with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = [asker.create(**question(f"{at}", system=system())) for at in range(2)]

        assert [answer.content[0].text for answer in answers] == ["Plain."] * 2
        assert {call.status for call in calls} == {"miss"}
        assert claude.count == 3

    def test_says_what_is_wrong_where_that_is_something_else(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda received: Reply.error(400, message="That is no model.")
        with gated(), aicache.scope(tenant="acme", policy="gated"):
            for _ in range(2):
                with pytest.raises(anthropic.BadRequestError, match="no model"):
                    asker.create(**question("1", system=system()))
        assert [bool(call.body.get("stream")) for call in claude.calls] == [True, False] * 2


def test_a_stream_that_cannot_be_read_lets_the_others_go_when_it_begins(asker: Asker, claude: ClaudeServer) -> None:
    """Such as those of Amazon Bedrock's own protocol."""
    claude.script(Reply.raw(200, {"content-type": "application/vnd.amazon.eventstream"}, b"\0" * 100))
    prefix = system()

    def ask(client: Any) -> Any:
        client.messages.with_raw_response.create(**question("1", system=prefix), stream=True).close()
        return client.messages.create(**question("2", system=prefix))

    async def aask(client: Any) -> Any:
        await (await client.messages.with_raw_response.create(**question("1", system=prefix), stream=True)).close()
        return await client.messages.create(**question("2", system=prefix))

    with gated(), aicache.scope(tenant="acme", policy="gated") as calls:
        asker.run(ask if asker.colour == "sync" else aask)

    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "open": 1}


def test_answers_without_usage_keep_nobody_waiting_for_each_other(asker: Asker, claude: ClaudeServer) -> None:
    prefix = system()

    def bare(received: Received) -> Reply:
        told = json.loads(plainly(received).body or b"")
        del told["usage"]
        return Reply.raw(200, {"content-type": "application/json"}, compact(told), latency=0.3)

    claude.answer = bare
    with gated(leader="plain"), aicache.scope(tenant="acme", policy="gated") as calls:
        at_once(asker, [question(f"{at}", system=prefix) for at in range(5)])

    assert Counter(call.prompt_cache for call in calls) == {"lead": 1, "wait": 4}
    assert claude.peak == 4


@pytest.mark.parametrize("kind", ["[1]", "{}", "null", '"of_the_future"'])
def test_an_odd_error_in_a_stream_is_upstreams_fault(asker: Asker, claude: ClaudeServer, kind: str) -> None:
    event = f'event: error\ndata: {{"type":"error","error":{{"type":{kind},"message":"Oh."}}}}\n\n'
    claude.script(Reply.raw(200, STREAM, event.encode()))
    with gated(), aicache.scope(tenant="acme", policy="gated"), pytest.raises(anthropic.InternalServerError):
        asker.create(**question("1", system=system()))


def test_a_plain_call_that_leads_has_no_more_time_than_its_caller_gives_it(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.text("Slowly, slowly, slowly, slowly, slowly.", pace=0.15))
    with gated(), aicache.scope(tenant="acme", policy="gated"), pytest.raises(anthropic.APITimeoutError):
        asker.create(client={"timeout": 0.4}, **question("1", system=system()))


class TestACallersTime:
    def test_is_not_spent_at_the_gate(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.script(Reply.text("Slow.", latency=1.9))
        with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated") as calls:
            at_once(asker, [question(f"{at}", system=prefix) for at in range(3)], timeout=2.0)

        assert all(call.waited < 1.5 for call in calls)  # half of it, on a busy machine

    def test_of_who_is_tried_again_is_told_whole(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.script(Reply.text("Slow.", latency=2.0), Reply.error(529), Reply.text("Here you are."))
        with gated(max_wait=0.3), aicache.scope(tenant="acme", policy="gated") as calls:
            at_once(asker, [question(f"{at}", system=prefix) for at in range(2)], max_retries=1)

        assert sorted(call.waited >= 0.3 for call in calls) == [False, True]

    def test_is_left_to_a_leader_who_was_refused(self, asker: Asker, claude: ClaudeServer) -> None:
        """It waits for who leads now."""
        prefix = system()
        claude.script(Reply.error(529, latency=0.3), Reply.text("Slow.", latency=3.0))
        with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [question(f"{at}", system=prefix) for at in range(2)], max_retries=1)

        assert writes(answers) == 1
        assert {call.status for call in calls} == {"miss"}

    def test_who_is_tried_again_has_waited(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        claude.script(Reply.text("Slow.", latency=2.0), Reply.error(529), Reply.error(529))
        with gated(max_wait=0.3):
            with aicache.scope(tenant="acme", policy="gated"):
                at_once(asker, [question(f"{at}", system=prefix) for at in range(2)], max_retries=2)
            counted = prompted()

        assert counted["gate_waits"] == 1
        assert counted["gate_waited_ms"] / 1000 < 0.6


class TestAPrewarm:
    @pytest.mark.parametrize("status", [429, 529])
    def test_that_is_refused_is_its_call_refused(self, asker: Asker, claude: ClaudeServer, status: int) -> None:
        claude.answer = lambda received: Reply.error(status)
        with gated(leader="prewarm"), aicache.scope(tenant="acme", policy="gated"):
            with pytest.raises(anthropic.APIStatusError):
                asker.create(**question("1", system=system()))
        assert claude.count == 1

    @pytest.mark.parametrize("leader", ["stream", "prewarm"])
    def test_of_the_callers_own_is_sent_as_it_is(self, asker: Asker, claude: ClaudeServer, leader: str) -> None:
        prefix = system()
        with gated(leader=leader), aicache.scope(tenant="acme", policy="gated") as calls:
            asker.create(**question("1", system=prefix, max_tokens=0))
            asker.create(**question("2", system=prefix))

        assert [(call.status, call.prompt_cache) for call in calls] == [("bypass", "lead"), ("miss", "open")]
        assert [call.body.get("stream") for call in claude.calls] == [None, None]


class TestAWait:
    def test_is_worth_no_more_than_what_the_other_writes(self, asker: Asker, claude: ClaudeServer) -> None:
        shared = system()
        claude.latency = 0.6

        def ask(at: int) -> dict[str, Any]:
            own = [{"type": "text", "text": f"{at} " + "mine " * 40_000, "cache_control": {"type": "ephemeral"}}]
            return question("", system=shared, messages=[{"role": "user", "content": own}])

        with gated(latency_value=0.02), aicache.scope(tenant="acme", policy="gated") as calls:
            answers = at_once(asker, [ask(0), ask(1)])

        assert writes(answers) == 2
        assert all(call.waited < 0.4 for call in calls)

    def test_is_not_begun_where_it_would_be_cut_short(self, asker: Asker, claude: ClaudeServer) -> None:
        prefix = system()
        with gated(settle=3.0, max_wait=1.0), aicache.scope(tenant="acme", policy="gated") as calls:
            for at in range(2):
                asker.create(**question(f"{at}", system=prefix))
        assert [call.waited for call in calls] == [0, 0]

    def test_goes_on_where_those_who_led_were_cancelled(self, claude: ClaudeServer) -> None:
        prefix = system()
        claude.latency = 1.0

        async def asking() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)
                tasks = [
                    asyncio.ensure_future(client.messages.create(**question(f"{at}", system=prefix))) for at in range(8)
                ]
                for round_ in range(3):
                    await auntil(lambda: claude.count == round_ + 1 and waiting() >= 5 - round_, "nobody leads")  # noqa: B023
                    (leader,) = [task for at, task in enumerate(tasks) if _asked(claude.calls[-1]) == f"{at}"]
                    leader.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        with gated(max_wait=60), aicache.scope(tenant="acme", policy="gated"):
            asyncio.run(asking())

        assert claude.count == 8
        assert claude.peak <= 5


def _asked(received: Received) -> str:
    return str(received.body["messages"][0]["content"])


class TestWhatPassesTheCacheBy:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("policy", ["default", "gated"])
    def test_gives_the_very_response_where_that_is_asked_for(
        self, claude: ClaudeServer, policy: str, stream: bool
    ) -> None:
        body = {**question("1", system=system()), "stream": stream}
        with gated(), anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme", policy=policy, bypass=True):
                found = client.post(
                    "/v1/messages", body=body, cast_to=httpx2.Response, stream=stream, stream_cls=anthropic.Stream
                )
                assert found.status_code == 200
                found.close()

    def test_needs_no_cache(self, asker: Asker, claude: ClaudeServer) -> None:
        nowhere = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
        with override_settings(CACHES=nowhere):
            asked = question("1", system=system())
            answers = [asker.create(**asked)]
            with aicache.scope(tenant="acme", bypass=True) as calls:
                answers.append(asker.create(**asked))

        assert all(answer.content[0].text for answer in answers)
        assert calls.last is not None
        assert calls.last.reason == "asked"

    @pytest.mark.parametrize("stream", [False, True])
    def test_is_left_alone_on_another_event_loop(
        self, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch, stream: bool
    ) -> None:
        monkeypatch.setattr(middleware, "loop_runs", lambda: False)  # as on trio's

        async def asking() -> Any:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)
                if not stream:
                    return await client.messages.create(**question("1", system=system()))
                async with client.messages.stream(**question("1", system=system())) as streamed:
                    return await streamed.get_final_message()

        with gated():
            with aicache.scope(tenant="acme", policy="gated", bypass=True) as calls:
                assert asyncio.run(asking()).content[0].text
            assert prompted()["writes"] == 0
        assert calls.last is not None
        assert (calls.last.status, calls.last.reason) == ("bypass", "asked")

    def test_is_not_measured_while_the_fleet_is_switched_off(self, asker: Asker, claude: ClaudeServer) -> None:
        from aicache.cache import get_cache

        with gated():
            get_cache().store.switch(on=False)
            with aicache.scope(tenant="acme", bypass=True):
                asker.create(**question("1", system=system(), model=MODEL))
            assert prompted()["writes"] == 0
