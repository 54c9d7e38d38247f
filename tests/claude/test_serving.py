from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
import time
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker


def text(message: Any) -> str:
    return message.content[0].text


def test_the_same_question_is_paid_once(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        first, second = asker.create(), asker.create()

    assert [call.status for call in calls] == ["miss", "hit"]
    assert [call.reason for call in calls] == ["new", ""]
    assert first == second
    assert claude.count == 1


def test_a_hit_tells_what_it_saved_and_how_long_it_lives(asker: Asker) -> None:
    with aicache.scope(tenant="acme") as calls:
        asker.create()
        asker.create()

    miss, hit = calls
    assert miss.saved_usd == 0
    assert miss.stored
    assert hit.saved_usd is not None
    assert hit.saved_usd > Decimal(0)
    assert miss.key == hit.key != ""
    assert 0.95 * 3600 - 10 < (hit.expires_in or 0) <= 3600
    assert 0 <= hit.age < 5


def test_a_model_without_a_price_saves_an_unknown_amount(asker: Asker) -> None:
    with aicache.scope(tenant="acme") as calls:
        asker.create(model="house-model")
        asker.create(model="house-model")

    assert calls.last is not None
    assert calls.last.status == "hit"
    assert calls.last.saved_usd is None


def test_two_tenants_get_two_answers(asker: Asker, claude: ClaudeServer) -> None:
    answers = {}
    for tenant in ("acme", "globex", "acme", "globex"):
        with aicache.scope(tenant=tenant):
            answers.setdefault(tenant, set()).add(text(asker.create()))

    assert claude.count == 2
    assert len(answers["acme"]) == len(answers["globex"]) == 1
    assert answers["acme"] != answers["globex"]


def test_everybody_is_another_tenant_than_one_of_that_name(asker: Asker, claude: ClaudeServer) -> None:
    for tenant in (aicache.GLOBAL, "everybody", "GLOBAL", "Everybody.GLOBAL"):
        with aicache.scope(tenant=tenant):
            asker.create()

    assert claude.count == 4


def test_a_call_of_nobody_is_not_cached_and_says_so(asker: Asker, claude: ClaudeServer) -> None:
    assert aicache.info(asker.create()).status == "unscoped"
    assert aicache.info(asker.create()).status == "unscoped"
    assert claude.count == 2


def test_bypass_neither_reads_nor_keeps(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        asker.create()
        with aicache.scope(bypass=True):
            asker.create()
        asker.create()

    assert [call.status for call in calls] == ["miss", "bypass", "hit"]
    assert claude.count == 2


def test_refresh_replaces_what_stands(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        old = text(asker.create())
        with aicache.scope(refresh=True):
            new = text(asker.create())
        assert text(asker.create()) == new != old

    assert [(call.status, call.reason) for call in calls] == [("miss", "new"), ("miss", "refresh"), ("hit", "")]


def test_another_variant_is_another_answer(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme"):
        texts = []
        for variant in (0, 1, 0, 1):
            with aicache.scope(variant=variant):
                texts.append(text(asker.create()))

    assert texts[0] == texts[2] != texts[1] == texts[3]


@pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
def test_each_way_of_asking_is_served_from_the_same_entry(asker: Asker, claude: ClaudeServer, way: str) -> None:
    if asker.colour == "sync":

        def ask(client: Any) -> Any:
            messages = getattr(client.messages, way)
            if way == "with_raw_response":
                raw = messages.create(**QUESTION)
                return raw.parse(), raw, raw.headers
            with messages.create(**QUESTION) as raw:
                return raw.parse(), raw, raw.headers

    else:

        async def ask(client: Any) -> Any:
            messages = getattr(client.messages, way)
            if way == "with_raw_response":
                raw = await messages.create(**QUESTION)
                return await raw.parse(), raw, raw.headers
            async with messages.create(**QUESTION) as raw:
                return await raw.parse(), raw, raw.headers

    with aicache.scope(tenant="acme"):
        plain = asker.create()
        message, raw, headers = asker.run(ask)

        assert claude.count == 1
        assert message == plain
        assert message._request_id == plain._request_id == headers["request-id"]
        assert aicache.info(raw).status == aicache.info(message).status == "hit"
        assert headers["cache-status"].startswith("aicache; hit; ttl=")
        assert "anthropic-ratelimit-requests-limit" not in headers
        assert raw.elapsed is not None


def test_an_answer_first_asked_for_raw_serves_a_plain_call(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        raw = asker.run(lambda client: client.messages.with_raw_response.create(**QUESTION))
        asker.create()

    assert re.fullmatch(r"aicache; fwd=miss; stored; ttl=3[456]\d\d", raw.headers["cache-status"])
    assert [call.status for call in calls] == ["miss", "hit"]


def test_a_parsed_answer_is_replayed_parsed(asker: Asker, claude: ClaudeServer) -> None:
    class Refund(anthropic.BaseModel):
        days: int

    claude.answer = lambda _: Reply.text('{"days": 14}')
    with aicache.scope(tenant="acme") as calls:
        parsed = [asker.run(lambda c: c.messages.parse(**QUESTION, output_format=Refund)) for _ in range(2)]

    assert [message.parsed_output for message in parsed] == [Refund(days=14)] * 2
    assert [call.status for call in calls] == ["miss", "hit"]


def test_the_beta_path_is_cached_under_keys_of_its_own(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        asker.create()
        for betas in (["a-1"], ["a-1"], ["b-1"]):
            asker.run(lambda c, betas=betas: c.beta.messages.create(**QUESTION, betas=betas))

    assert [call.status for call in calls] == ["miss", "miss", "hit", "miss"]


def test_a_stream_that_is_asked_for_in_the_extra_body_is_not_read_for_its_caller(asker: Asker) -> None:
    asked = {**QUESTION, "extra_body": {"stream": True}}

    def ask(client: Any) -> Any:
        with client.messages.with_streaming_response.create(**asked) as response:
            return response.http_response.is_stream_consumed, list(response.iter_lines())

    async def aask(client: Any) -> Any:
        async with client.messages.with_streaming_response.create(**asked) as response:
            return response.http_response.is_stream_consumed, [line async for line in response.iter_lines()]

    with aicache.scope(tenant="acme") as calls:
        consumed, lines = asker.run(ask if asker.colour == "sync" else aask)

    assert not consumed
    assert "event: message_stop" in lines
    assert [(call.status, call.reason) for call in calls] == [("bypass", "stream")]


@pytest.mark.parametrize("scope", [{"tenant": "acme"}, {"tenant": "acme", "bypass": True}, {}], ids=str)
def test_a_caller_who_wants_the_http_response_itself_gets_it(asker: Asker, scope: dict[str, Any]) -> None:
    with aicache.scope(**scope) as calls:
        response = asker.run(lambda client: client.post("/v1/messages", body=QUESTION, cast_to=httpx2.Response))

    assert response.json()["type"] == "message"
    assert len(calls) == 1
    assert calls.last is not None
    assert not calls.last.stored


def test_counting_tokens_is_none_of_our_business(asker: Asker) -> None:
    asked = {name: value for name, value in QUESTION.items() if name != "max_tokens"}
    with aicache.scope(tenant="acme") as calls:
        asker.run(lambda client: client.messages.count_tokens(**asked))

    assert len(calls) == 0


@pytest.mark.parametrize(
    ("reply", "policy", "reason"),
    [
        (Reply.tool_use("refund", {"order": 1}), {}, "stop_reason:tool_use"),
        (Reply.tool_use("refund", {"order": 1}), {"store_tool_use": True}, None),
        (Reply.blocks([{"type": "text", "text": "no"}], stop_reason="refusal"), {}, "stop_reason:refusal"),
        (Reply.blocks([{"type": "text", "text": "no"}], stop_reason="refusal"), {"store_refusals": True}, None),
        (Reply.blocks([{"type": "text", "text": "…"}], stop_reason="pause_turn"), {}, "stop_reason:pause_turn"),
        (Reply.text("long " * 400), {}, "stop_reason:max_tokens"),
        (Reply.text("long " * 400), {"store_truncated": True}, None),
        (Reply.text("large " * 20), {"max_bytes": 50}, "too_large"),
        (Reply.text("x"), {"ttl": 0}, "no_ttl"),
        (Reply.raw(200, {"content-type": "application/json"}, b'{"type": "message", "conte'), {}, "not_a_message"),
        (Reply.raw(200, {"content-type": "application/json"}, b'{"type": "error"}'), {}, "not_a_message"),
    ],
)
def test_only_what_may_be_kept_is_kept(
    asker: Asker, claude: ClaudeServer, reply: Reply, policy: dict[str, Any], reason: str | None
) -> None:
    claude.answer = lambda _: reply
    with override_settings(AICACHE={"POLICIES": {"mine": policy}, "NAMESPACE": "kept"}):
        with aicache.scope(tenant=str(dataclasses.astuple(reply)) + str(policy) + asker.colour, policy="mine") as calls:
            for _ in range(2):
                try:
                    asker.create()
                except (json.JSONDecodeError, AttributeError):
                    assert reason == "not_a_message"  # the SDK's own trouble with such a body is the caller's as ever

    first, second = calls
    if reason is None:
        assert (first.stored, second.status) == (True, "hit")
    else:
        assert (first.stored, first.reason) == (False, reason)
        assert second.status == "miss"


def test_an_answer_dies_at_its_time(asker: Asker, claude: ClaudeServer) -> None:
    with override_settings(AICACHE={"POLICIES": {"blink": {"ttl": 0.05}}, "NAMESPACE": "blink" + asker.colour}):
        with aicache.scope(tenant=claude.url, policy="blink") as calls:
            asker.create()
            while (last := aicache.info(asker.create())).status == "hit":
                pass

    assert last.reason == "expired"
    assert claude.count == 2
    assert len(calls) >= 2


def test_a_stale_answer_is_served_at_once_while_it_is_renewed(asker: Asker, claude: ClaudeServer) -> None:
    policies = {"swr": {"ttl": 0.05, "stale_while_revalidate": 60}}

    def renewing() -> bool:
        """A client should not be closed under a renewal that is under way."""
        threads = any(thread.name == "aicache-renew" for thread in threading.enumerate())
        return threads or bool(get_cache()._background)

    def ask_until_renewed(client: Any) -> list[Any]:
        answers = [client.messages.create(**QUESTION)]
        claude.latency = 0.2
        while len({text(answer) for answer in answers}) == 1:
            answers.append(client.messages.create(**QUESTION))
        while renewing():
            time.sleep(0.01)
        return answers

    async def aask_until_renewed(client: Any) -> list[Any]:
        answers = [await client.messages.create(**QUESTION)]
        claude.latency = 0.2
        while len({text(answer) for answer in answers}) == 1:
            answers.append(await client.messages.create(**QUESTION))
        while renewing():
            await asyncio.sleep(0.01)
        return answers

    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": "swr" + asker.colour}):
        with aicache.scope(tenant=claude.url, policy="swr"):
            answers = asker.run(ask_until_renewed if asker.colour == "sync" else aask_until_renewed)

    seen = [aicache.info(answer).status for answer in answers]
    assert seen[0] == "miss"
    assert set(seen[1:-1]) <= {"hit", "stale"}
    assert "stale" in seen
    assert seen[-1] in ("hit", "stale")
    assert claude.peak == 1  # one of them renewed it, however many were served the old answer meanwhile


def test_disabled_by_the_settings_everything_goes_to_upstream(asker: Asker, claude: ClaudeServer) -> None:
    with override_settings(AICACHE={"ENABLED": False}), aicache.scope(tenant="acme") as calls:
        asker.create()
        asker.create()

    assert [(call.status, call.reason) for call in calls] == [("bypass", "disabled")] * 2
    assert claude.count == 2


def test_a_failure_is_the_callers_own_and_is_not_kept(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529, retry_after=0.25))
    with aicache.scope(tenant="acme") as calls:
        with pytest.raises(anthropic.APIStatusError) as caught:
            asker.create()
        asker.create()

    assert caught.value.status_code == 529
    assert caught.value.response.headers["retry-after"] == "0.25"
    assert [call.status for call in calls] == ["error", "miss"]


def test_a_retried_call_is_one_call_with_its_final_status(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(500, retry_after=0.01), Reply.error(529, retry_after=0.01))
    with aicache.scope(tenant="acme") as calls:
        asker.create(client={"max_retries": 2})

    assert [call.status for call in calls] == ["miss"]
    assert claude.count == 3


def test_an_unreachable_upstream_raises_the_sdks_own_error(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.drop(after_bytes=0))
    with aicache.scope(tenant="acme") as calls, pytest.raises(anthropic.APIConnectionError):
        asker.create()

    assert [call.status for call in calls] == ["error"]


def test_a_timeout_raises_the_sdks_own_error(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 1.0
    with aicache.scope(tenant="acme") as calls, pytest.raises(anthropic.APITimeoutError):
        asker.create(timeout=0.1)

    assert [call.status for call in calls] == ["error"]


def test_a_truncated_body_is_not_kept(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.drop(after_bytes=20))
    with aicache.scope(tenant="acme") as calls:
        with pytest.raises(anthropic.APIConnectionError):
            asker.create()
        asker.create()

    assert [call.status for call in calls] == ["error", "miss"]
