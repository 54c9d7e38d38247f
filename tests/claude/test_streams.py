"""Streams are kept and replayed like any other answer, whichever way they were asked for."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import anthropic
import httpx2
import pytest
from django.test import override_settings

import aicache
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.streaming import TEXT, Caller, gated
from tests.claude.together import until
from tests.testing.test_streams import COMPACTED, REPLIES, pinned, told

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

EVERYTHING = {"tools": {"store_tool_use": True, "store_refusals": True, "allow_external_state": True}}


def streamed(asker: Asker, **changes: Any) -> list[Any]:
    """The events of a stream that is read to its end."""
    asked = {**QUESTION, **changes, "stream": True}

    async def aask(client: Any) -> list[Any]:
        return [event async for event in await client.messages.create(**asked)]

    events: list[Any] = asker.run(
        aask if asker.colour == "async" else lambda client: list(client.messages.create(**asked))
    )
    return events


def final(asker: Asker, *, beta: bool = False, **changes: Any) -> Any:
    """The message that the SDK's helper accumulates of a stream."""
    asked = {**QUESTION, **changes}

    def ask(client: Any) -> Any:
        with (client.beta if beta else client).messages.stream(**asked) as helper:
            return helper.get_final_message()

    async def aask(client: Any) -> Any:
        async with (client.beta if beta else client).messages.stream(**asked) as helper:
            return await helper.get_final_message()

    return asker.run(aask if asker.colour == "async" else ask)


def raw(asker: Asker, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """The bytes of a stream, and its headers."""
    asked = {**QUESTION, **changes, "stream": True}

    def ask(client: Any) -> tuple[bytes, dict[str, str]]:
        with client.messages.with_streaming_response.create(**asked) as response:
            return b"".join(response.iter_bytes()), dict(response.headers)

    async def aask(client: Any) -> tuple[bytes, dict[str, str]]:
        async with client.messages.with_streaming_response.create(**asked) as response:
            return b"".join([chunk async for chunk in response.iter_bytes()]), dict(response.headers)

    result: tuple[bytes, dict[str, str]] = asker.run(aask if asker.colour == "async" else ask)
    return result


def without_pings(body: bytes) -> bytes:
    return b"".join(f"{event}\n\n".encode() for event in body.decode().split("\n\n")[:-1] if "event: ping" not in event)


def test_a_stream_is_kept_and_replayed_to_the_byte(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        first, _ = raw(asker)
        second, headers = raw(asker)

    assert claude.count == 1
    assert second == without_pings(first)
    assert second != first  # there was one
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["request-id"].startswith("req_")
    assert headers["cache-status"].startswith("aicache; hit")
    assert [(call.status, call.reason, call.stored) for call in calls] == [("miss", "new", True), ("hit", "", True)]
    assert calls.last is not None
    assert calls.last.saved_tokens > 0
    assert calls.last.saved_usd


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", [*REPLIES, "compaction"])
def test_one_entry_serves_both_ways_of_asking(asker: Asker, claude: ClaudeServer, kind: str, gzip: bool) -> None:
    from dataclasses import replace

    beta = kind == "compaction"
    reply = replace(pinned(COMPACTED if beta else REPLIES[kind]), gzip=gzip)
    claude.answer = lambda _: reply
    with override_settings(AICACHE={"POLICIES": EVERYTHING, "NAMESPACE": uuid.uuid4().hex}):
        for first in ("stream", "plain"):
            claude.reset()
            claude.answer = lambda _: reply
            with aicache.scope(tenant=first, policy="tools") as calls:
                asked = {"beta": beta}
                plain = lambda: asker.run(lambda c: (c.beta if beta else c).messages.create(**QUESTION))  # noqa: E731
                answers = [final(asker, **asked), plain()] if first == "stream" else [plain(), final(asker, **asked)]
                if not calls.last or not calls.last.stored:  # nothing keeps a compaction
                    assert kind in ("compaction",)
                    continue
                answers.append(final(asker, **asked))
            assert claude.count == 1, kind
            assert told(answers[0]) == told(answers[1]) == told(answers[2])


def test_a_replay_has_what_a_response_has(asker: Asker, claude: ClaudeServer) -> None:
    asked = {**QUESTION, "stream": True}

    def ask(client: Any) -> Any:
        with client.messages.with_streaming_response.create(**asked) as response:
            response.read()
            return response.elapsed.total_seconds(), response.request_id, response.status_code

    async def aask(client: Any) -> Any:
        async with client.messages.with_streaming_response.create(**asked) as response:
            await response.read()
            return response.elapsed.total_seconds(), response.request_id, response.status_code

    with aicache.scope(tenant="acme"):
        (took, *first), (at_once, *second) = (asker.run(aask if asker.colour == "async" else ask) for _ in range(2))
    assert first == second
    assert took > at_once == 0


def test_the_helpers_text_and_parsed_output_are_replayed_too(asker: Asker, claude: ClaudeServer) -> None:
    def ask(client: Any) -> str:
        with client.messages.stream(**QUESTION) as helper:
            return "".join(helper.text_stream)

    async def aask(client: Any) -> str:
        async with client.messages.stream(**QUESTION) as helper:
            return "".join([text async for text in helper.text_stream])

    with aicache.scope(tenant="acme"):
        texts = [asker.run(aask if asker.colour == "async" else ask) for _ in range(2)]

    assert texts[0] == texts[1] != ""
    assert claude.count == 1


def test_what_a_stream_says_of_itself_is_known_when_it_has_been_read(asker: Asker, claude: ClaudeServer) -> None:
    def ask(client: Any) -> list[aicache.CallInfo]:
        stream = client.messages.create(**QUESTION, stream=True)
        before = aicache.info(stream)
        list(stream)
        return [before, aicache.info(stream)]

    async def aask(client: Any) -> list[aicache.CallInfo]:
        stream = await client.messages.create(**QUESTION, stream=True)
        before = aicache.info(stream)
        [event async for event in stream]
        return [before, aicache.info(stream)]

    with aicache.scope(tenant="acme") as calls:
        before, after = asker.run(aask if asker.colour == "async" else ask)

    assert (before.status, before.stored) == ("miss", False)
    assert (after.status, after.stored) == ("miss", True)
    assert list(calls) == [after]


def test_an_entry_is_stored_when_its_last_event_is_in_sight(asker: Asker, claude: ClaudeServer) -> None:
    """So that who stops there, as most do, finds it stored; and never before."""
    with aicache.scope(tenant="acme"), gated(claude, Reply.text(TEXT)) as gate:
        caller = Caller(asker).opened()
        gate.open_to(4)
        caller.reads(3)  # and a ping
        assert not caller.info.stored
        gate.open()
        caller.rest()
        assert caller.kinds[-1] == "message_stop"
        assert caller.info.stored
        streamed(asker)
    assert claude.count == 1


@pytest.mark.parametrize("read", [0, 1, 3])
def test_who_leaves_early_pays_no_further_and_stores_nothing(asker: Asker, claude: ClaudeServer, read: int) -> None:
    with aicache.scope(tenant="acme"), gated(claude) as gate:
        gate.open_to(4)
        caller = Caller(asker).opened()
        if read:
            caller.reads(read)
        caller.leaves()
        until(lambda: not claude.in_flight, "upstream is not closed")
        gate.open()
        assert (caller.info.status, caller.info.reason, caller.info.stored) == ("miss", "left", False)
        again = Caller(asker).rest()
    assert (again.info.status, again.info.stored) == ("miss", True)
    assert claude.count == 2


def test_who_breaks_at_the_last_event_has_it_stored(asker: Asker, claude: ClaudeServer) -> None:
    def ask(client: Any) -> None:
        for event in client.messages.create(**QUESTION, stream=True):
            if event.type == "message_stop":
                break

    async def aask(client: Any) -> None:
        async for event in await client.messages.create(**QUESTION, stream=True):
            if event.type == "message_stop":
                break

    with aicache.scope(tenant="acme") as calls:
        asker.run(aask if asker.colour == "async" else ask)
        assert [(call.status, call.stored) for call in calls] == [("miss", True)]
        streamed(asker)
    assert claude.count == 1


def test_a_policy_may_have_the_rest_read_all_the_same(asker: Asker, claude: ClaudeServer) -> None:
    with override_settings(AICACHE={"POLICIES": {"keep": {"drain": True}}, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(tenant="acme", policy="keep") as calls:

            def leaving(client: Any) -> None:
                stream = client.messages.create(**QUESTION, stream=True)
                next(iter(stream))
                stream.close()

            async def aleaving(client: Any) -> None:
                stream = await client.messages.create(**QUESTION, stream=True)
                async for _ in stream:
                    break
                await stream.close()
                while not (calls.last and calls.last.stored):
                    await asyncio.sleep(0.005)

            asker.run(aleaving if asker.colour == "async" else leaving)
            until(lambda: calls.last and calls.last.stored, "it was not stored")
            streamed(asker)
    assert claude.count == 1


@pytest.mark.parametrize("after", [0, 1, 100, 300, 600, 900])
def test_a_stream_that_breaks_off_raises_what_it_did_and_stores_nothing(
    asker: Asker, claude: ClaudeServer, after: int
) -> None:
    claude.script(Reply.drop(after_bytes=after))
    with aicache.scope(tenant="acme") as calls:
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIConnectionError)):
            streamed(asker)
        assert calls.last is not None
        assert calls.last.status == "error"
        streamed(asker)
        assert (calls.last.status, calls.last.stored) == ("miss", True)
    assert claude.count == 2


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_error_in_the_stream_is_raised_by_the_sdk_and_stored_nowhere(
    asker: Asker, claude: ClaudeServer, after: int
) -> None:
    claude.script(Reply.text(TEXT, error_after=after))
    with aicache.scope(tenant="acme") as calls:
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            streamed(asker)
        assert calls.last is not None
        assert (calls.last.status, calls.last.stored) == ("error", False)
        streamed(asker)
    assert claude.count == 2


def test_a_stream_without_its_end_is_passed_on_as_it_is_and_not_stored(asker: Asker, claude: ClaudeServer) -> None:
    whole, _ = raw(asker)
    cut = whole[: whole.index(b"event: message_stop")]
    claude.answer = lambda _: Reply.raw(200, {"content-type": "text/event-stream"}, cut)
    with aicache.scope(tenant="acme") as calls:
        assert raw(asker)[0] == cut
        assert calls.last is not None
        assert (calls.last.status, calls.last.reason, calls.last.stored) == ("miss", "incomplete", False)


def test_what_is_no_stream_is_passed_on_as_it_is_and_not_stored(asker: Asker, claude: ClaudeServer) -> None:
    for body in (b"", b"hm", b"event: message_start\ndata: {\n\n" * 3, bytes(range(256)) * 50):
        claude.answer = lambda _, body=body: Reply.raw(200, {"content-type": "text/event-stream"}, body)
        with aicache.scope(tenant=uuid.uuid4().hex) as calls:
            assert raw(asker)[0] == body
            assert calls.last is not None
            assert (calls.last.status, calls.last.stored) == ("miss", False)


def test_a_stream_that_is_too_large_passes_through_and_says_why(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("many words " * 2000)
    with override_settings(AICACHE={"POLICIES": {"small": {"max_bytes": 5000}}, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(tenant="acme", policy="small") as calls:
            events = streamed(asker, max_tokens=9000)
            text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
            assert text == "many words " * 2000
            assert calls.last is not None
            assert (calls.last.status, calls.last.reason, calls.last.stored) == ("miss", "too_large", False)
            streamed(asker, max_tokens=9000)
    assert claude.count == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.text("x" * 3000), "stop_reason:max_tokens"),
        (Reply.tool_use("refund", {"order": 1}), "stop_reason:tool_use"),
        (Reply.text("I", stop_reason="refusal"), "stop_reason:refusal"),
        (Reply.text("I", stop_reason="pause_turn"), "stop_reason:pause_turn"),
    ],
)
def test_what_a_policy_does_not_keep_it_does_not_keep_of_a_stream(
    asker: Asker, claude: ClaudeServer, reply: Reply, reason: str
) -> None:
    claude.answer = lambda _: reply
    with aicache.scope(tenant="acme") as calls:
        streamed(asker)
    assert calls.last is not None
    assert (calls.last.status, calls.last.reason, calls.last.stored) == ("miss", reason, False)


def test_a_replay_is_paced_where_the_policy_says_so(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("x" * 120)
    policies = {"typed": {"replay": 400}}
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(tenant="acme"):
            asker.create()
            streamed(asker, max_tokens=201)
        with aicache.scope(tenant="acme", policy="typed"):
            for changes in ({}, {"max_tokens": 201}):  # kept plain, and kept as a stream
                began = time.monotonic()
                events = streamed(asker, **changes)
                assert time.monotonic() - began >= 120 / 400
                deltas = [event for event in events if event.type == "content_block_delta"]
                assert len(deltas) == 10
    assert claude.count == 2


def test_a_stream_that_nobody_can_fold_is_for_streams_only(asker: Asker, claude: ClaudeServer) -> None:
    body, _ = raw(asker)
    odd = body.replace(b'"type":"text_delta"', b'"type":"hologram_delta"')
    claude.answer = lambda received: (
        Reply.raw(200, {"content-type": "text/event-stream"}, odd)
        if received.body.get("stream")
        else Reply.text("flat")
    )
    with aicache.scope(tenant="acme") as calls:
        assert raw(asker)[0] == odd
        assert raw(asker)[0] == without_pings(odd)
        plain = asker.create()
        assert plain.content[0].text == "flat"
        assert calls.last is not None
        assert (calls.last.status, calls.last.reason) == ("miss", "form")
        streamed(asker)
    assert [call.status for call in calls] == ["miss", "hit", "miss", "hit"]


def test_without_a_scope_a_stream_passes_by_untouched(asker: Asker, claude: ClaudeServer) -> None:
    for _ in range(2):
        raw(asker)
    assert claude.count == 2


def test_a_refresh_makes_a_stream_anew_and_a_bypass_keeps_nothing(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme") as calls:
        streamed(asker)
        with aicache.scope(bypass=True):
            streamed(asker)
        with aicache.scope(refresh=True):
            streamed(asker)
        streamed(asker)
    assert [call.status for call in calls] == ["miss", "bypass", "miss", "hit"]
    assert claude.count == 3


def test_a_status_that_says_no_is_an_error_as_it_always_was(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.error(529)
    with aicache.scope(tenant="acme") as calls:
        with pytest.raises(anthropic.OverloadedError):
            streamed(asker)
    assert calls.last is not None
    assert calls.last.status == "error"


def test_under_an_idempotency_key_a_stream_is_the_same_stream_again(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.tool_use("refund", {"order": 1})
    with aicache.scope(tenant="acme", idempotency_key="order-1") as calls:
        first, second = final(asker), final(asker)
    assert told(first) == told(second)
    assert claude.count == 1
    assert calls.last is not None
    assert (calls.last.status, calls.last.reason) == ("hit", "idempotency_key")
