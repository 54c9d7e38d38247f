"""Streams: the same message in pieces, for every kind of content block, as the SDK reads it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.testing import ClaudeServer, Reply
from aicache.testing.messages import events
from tests.testing.asking import asking, collect

CHARACTER_CITATION = {
    "type": "char_location",
    "cited_text": "within 30 days",
    "document_index": 0,
    "document_title": "Refunds",
    "start_char_index": 3,
    "end_char_index": 17,
}
WEB_CITATION = {
    "type": "web_search_result_location",
    "cited_text": "cats purr",
    "encrypted_index": "abc",
    "title": "Cats",
    "url": "https://example.org/cats",
}
WEB_RESULT = {
    "type": "web_search_result",
    "title": "Cats",
    "url": "https://example.org/cats",
    "encrypted_content": "xyz",
    "page_age": "2 days ago",
}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "why cats purr"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [WEB_RESULT]}
NESTED = {"city": "Tromsø ❄", "days": [1, 2.5, None, True], "deep": {"quote": 'she said "no\\n"', "line": "\u2028"}}

REPLIES = {
    "text": Reply.text("A plain answer, longer than one delta, with ❄, 𝄞 and a \u2028 separator."),
    "empty text": Reply.text(""),
    "no content": Reply.blocks([]),
    "thinking": Reply.blocks(
        [
            {"type": "thinking", "thinking": "Hm, let me think about that.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "Done."},
        ]
    ),
    "redacted thinking": Reply.blocks([{"type": "redacted_thinking", "data": "b3BhcXVl"}]),
    "tool use": Reply.tool_use("weather", NESTED),
    "tool use without input": Reply.tool_use("now", {}),
    "several tools": Reply.blocks(
        [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "a", "input": {"x": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": "b", "input": {"y": [2]}},
        ],
        stop_reason="tool_use",
    ),
    "citations": Reply.blocks(
        [{"type": "text", "text": "Within 30 days.", "citations": [CHARACTER_CITATION, WEB_CITATION]}]
    ),
    "web search": Reply.blocks(
        [SEARCH, FOUND, {"type": "text", "text": "They purr.", "citations": [WEB_CITATION]}],
        server_tool_use={"web_search_requests": 1, "web_fetch_requests": 0},
    ),
    "refusal": Reply.text("I", stop_reason="refusal", stop_details={"type": "refusal", "category": "cyber"}),
    "container": Reply.text("ran", container={"id": "container_1", "expires_at": "2027-01-01T00:00:00Z"}),
    "usage": Reply.text("x", input_tokens=5, cache_read_input_tokens=9, output_tokens_details={"thinking_tokens": 4}),
}
COMPACTED = Reply.blocks(
    [
        {"type": "compaction", "content": "So far: a refund.", "encrypted_content": "b3BhcXVl", "signature": "c2ln"},
        {"type": "text", "text": "Where were we?"},
    ],
    context_management={"applied_edits": []},
    iterations=[],
)


def told(message: Any) -> Any:
    """What a message says, whoever parsed it: the accumulator adds empty fields of its own."""
    return message.model_dump(mode="json", exclude_none=True)


def pinned(reply: Reply) -> Reply:
    """Two answers made from it are equal to the id."""
    content = [{"id": "toolu_1", **block} if block["type"] == "tool_use" else block for block in reply.content]
    return replace(reply, content=content, fields={"id": "msg_1", **reply.fields})


def raw_events(client: anthropic.Anthropic, **more: Any) -> list[dict[str, Any]]:
    with client.messages.with_streaming_response.create(**asking("x", stream=True, **more)) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["transfer-encoding"] == "chunked"
        found = [(sse.event, sse.json()) for sse in anthropic.Stream.raw_events(response.http_response)]
    assert all(name == event["type"] for name, event in found)
    return [event for _, event in found]


@pytest.mark.parametrize("kind", REPLIES)
def test_the_sdk_accumulates_a_stream_to_the_plain_message(
    claude: ClaudeServer, client: anthropic.Anthropic, kind: str
) -> None:
    claude.answer = lambda received: pinned(REPLIES[kind])
    plain = client.messages.create(**asking("x"))
    with client.messages.stream(**asking("x")) as stream:
        assert told(stream.get_final_message()) == told(plain)


@pytest.mark.parametrize("kind", REPLIES)
def test_the_async_sdk_accumulates_a_stream_to_the_plain_message(claude: ClaudeServer, kind: str) -> None:
    claude.answer = lambda received: pinned(REPLIES[kind])

    async def ask() -> tuple[Any, Any]:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="test") as client:
            plain = await client.messages.create(**asking("x"))
            async with client.messages.stream(**asking("x")) as stream:
                return plain, await stream.get_final_message()

    plain, streamed = asyncio.run(ask())
    assert told(streamed) == told(plain)


@pytest.mark.parametrize("kind", [*REPLIES, "compaction"])
def test_the_beta_sdk_accumulates_a_stream_to_the_plain_message(
    claude: ClaudeServer, client: anthropic.Anthropic, kind: str
) -> None:
    claude.answer = lambda received: pinned({**REPLIES, "compaction": COMPACTED}[kind])
    plain = client.beta.messages.create(**asking("x"))
    with client.beta.messages.stream(**asking("x")) as stream:
        assert told(stream.get_final_message()) == told(plain)


def test_the_plain_message_has_what_the_reply_said(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.answer = lambda received: COMPACTED
    content = told(client.beta.messages.create(**asking("x")))["content"]
    assert content == list(COMPACTED.content)
    claude.answer = lambda received: REPLIES["web search"]
    content = told(client.messages.create(**asking("x")))["content"]
    assert content == list(REPLIES["web search"].content)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_partial_json_of_a_tool_input_joins_to_the_input(value: Any) -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"value": value}}
    usage = {"input_tokens": 1, "output_tokens": 1}
    streamed = events({"content": [block], "usage": usage, "stop_reason": "tool_use"})
    parts = [event["delta"]["partial_json"] for event in streamed if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"value": value}
    assert all(len(part) <= 7 for part in parts)


def test_events_come_in_the_order_of_the_api(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.answer = lambda received: Reply.text("Twelve charsTwelve chars.")
    found = raw_events(client)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start, delta = found[0]["message"], found[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 1)
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"] == {
        "input_tokens": 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 7,
    }


def test_a_stream_is_cut_like_a_plain_answer(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**asking("x", max_tokens=2)) as stream:
        message = stream.get_final_message()
    assert (told(message)["content"], message.stop_reason) == ([{"type": "text", "text": "Answer 1"}], "max_tokens")
    assert [event["type"] for event in raw_events(client, max_tokens=0)] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("number", [1, 4])
def test_an_error_can_come_after_some_events(claude: ClaudeServer, client: anthropic.Anthropic, number: int) -> None:
    claude.answer = lambda received: Reply.text("Twelve charsTwelve chars.", error_after=number)
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        collect(client.messages.create(**asking("x"), stream=True), seen)
    assert len(seen) == number - (number > 2)  # the SDK swallows the ping
    assert "message_stop" not in seen


@pytest.mark.parametrize("gzip", [False, True])
def test_events_can_be_paced(claude: ClaudeServer, client: anthropic.Anthropic, gzip: bool) -> None:
    claude.answer = lambda received: Reply.text("Twelve chars", pace=0.05, gzip=gzip)
    began = time.monotonic()
    assert len(list(client.messages.create(**asking("x"), stream=True))) == 6
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("gzip", [False, True])
def test_an_event_does_not_wait_for_the_next(claude: ClaudeServer, client: anthropic.Anthropic, gzip: bool) -> None:
    claude.answer = lambda received: Reply.text("Twelve chars", pace=60, gzip=gzip)
    with client.messages.create(**asking("x"), stream=True, timeout=10) as stream:
        assert next(iter(stream)).type == "message_start"
        assert claude.in_flight == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_can_be_compressed(claude: ClaudeServer, client: anthropic.Anthropic, stream: bool) -> None:
    claude.answer = lambda received: Reply.text("word " * 500, gzip=True)
    with client.messages.with_streaming_response.create(**asking("x"), stream=stream) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert len(b"".join(response.iter_bytes())) > 2500
    with client.messages.stream(**asking("x"), extra_headers={"accept-encoding": "identity"}) as plain:
        assert "content-encoding" not in plain.response.headers
        assert plain.get_final_text() == "word " * 500
