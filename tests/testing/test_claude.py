"""The server as a test sees it: what it answers, what it counts, what it refuses."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest

from aicache.testing import ClaudeServer, Received, Reply
from tests.testing.asking import MODEL, asking, eventually, text_of

# What it answers


def test_the_default_answer_names_the_question_and_never_comes_twice(
    claude: ClaudeServer, client: anthropic.Anthropic
) -> None:
    question = asking("how do I get a refund?")
    first, second = client.messages.create(**question), client.messages.create(**question)
    assert text_of(first) == "Answer 1 to: how do I get a refund?"
    assert text_of(second) == "Answer 2 to: how do I get a refund?"
    claude.reset()
    assert text_of(client.messages.create(**question)) == "Answer 3 to: how do I get a refund?"


def test_the_default_answer_is_to_the_last_thing_that_the_user_said(client: anthropic.Anthropic) -> None:
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "last"}]},
        {"role": "assistant", "content": "I am"},
    ]
    assert text_of(client.messages.create(**asking("", messages=turns))).endswith("to: last")


def test_a_message_has_the_fields_of_the_api(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(**asking("12345678", system="abcd"))
    message = raw.parse()
    assert message.id.startswith("msg_")
    assert (message.model, message.role, message.stop_reason) == (MODEL, "assistant", "end_turn")
    assert message.usage.input_tokens == 3
    assert message.usage.output_tokens == -(-len(text_of(message)) // 4)
    assert message.usage.service_tier == "standard"
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["request-id"].startswith("req_")
    assert {"date", "anthropic-organization-id", "anthropic-ratelimit-requests-remaining"} <= set(raw.headers)


def test_every_message_and_every_response_has_an_id_of_its_own(client: anthropic.Anthropic) -> None:
    raws = [client.messages.with_raw_response.create(**asking("x")) for _ in range(20)]
    assert len({raw.parse().id for raw in raws}) == 20
    assert len({raw.headers["request-id"] for raw in raws}) == 20


def test_scripted_replies_come_once_each_in_order_and_then_the_default(
    claude: ClaudeServer, client: anthropic.Anthropic
) -> None:
    claude.answer = lambda received: Reply.text(f"number {received.number}")
    claude.script(Reply.text("one"), Reply.text("two"))
    claude.script(Reply.text("three"))
    texts = [text_of(client.messages.create(**asking("x"))) for _ in range(4)]
    assert texts == ["one", "two", "three", "number 4"]


def test_many_callers_at_once_use_each_scripted_reply_once(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.script(*(Reply.text(str(number)) for number in range(40)))
    with ThreadPoolExecutor(20) as pool:
        texts = list(pool.map(lambda _: text_of(client.messages.create(**asking("x"))), range(40)))
    assert sorted(texts, key=int) == [str(number) for number in range(40)]


def test_reply_fields_reach_usage_and_message(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "no"}
    claude.script(Reply.text("No.", stop_reason="refusal", output_tokens=7, id="msg_mine", stop_details=details))
    message = client.messages.create(**asking("x"))
    assert (message.id, message.stop_reason, message.usage.output_tokens) == ("msg_mine", "refusal", 7)
    assert message.stop_details is not None
    assert message.stop_details.category == "bio"


def test_one_tool_use_reply_gives_a_fresh_block_id_each_time(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    reply = Reply.tool_use("weather", {"city": "Oslo"})
    claude.answer = lambda received: reply
    first, second = (client.messages.create(**asking("x")) for _ in range(2))
    assert first.stop_reason == "tool_use"
    blocks = [first.content[0], second.content[0]]
    assert all(block.type == "tool_use" and block.input == {"city": "Oslo"} for block in blocks)
    assert blocks[0].id != blocks[1].id


def test_an_answer_longer_than_max_tokens_is_cut(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.answer = lambda received: Reply.text("abcd" * 10)
    message = client.messages.create(**asking("x", max_tokens=3))
    assert (text_of(message), message.stop_reason, message.usage.output_tokens) == ("abcd" * 3, "max_tokens", 3)
    assert client.messages.create(**asking("x", max_tokens=10)).stop_reason == "end_turn"


def test_a_block_that_cannot_be_cut_is_left_out(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    tool = {"type": "tool_use", "name": "weather", "input": {"city": "Oslo " * 20}}
    claude.script(Reply.blocks([{"type": "text", "text": "Let me see."}, tool], stop_reason="tool_use"))
    message = client.messages.create(**asking("x", max_tokens=5))
    assert ([block.type for block in message.content], message.stop_reason) == (["text"], "max_tokens")


def test_max_tokens_zero_gives_an_empty_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asking("x", max_tokens=0))
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)
    assert message.usage.input_tokens == 1


def test_the_first_stop_sequence_in_the_answer_ends_it(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.answer = lambda received: Reply.text("one STOP two END")
    message = client.messages.create(**asking("x", stop_sequences=["END", "STOP", "absent"]))
    assert (text_of(message), message.stop_reason, message.stop_sequence) == ("one ", "stop_sequence", "STOP")


def test_counting_tokens_is_no_call(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "12345678"}])
    assert (counted.input_tokens, claude.count) == (2, 0)


def test_the_async_client_is_served_too(claude: ClaudeServer) -> None:
    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="test") as client:
            messages = await asyncio.gather(*(client.messages.create(**asking("x")) for _ in range(5)))
            return [text_of(message) for message in messages]

    assert sorted(asyncio.run(ask())) == [f"Answer {number} to: x" for number in range(1, 6)]


# What it counts


def test_calls_are_recorded_as_they_arrived(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    before = time.time()
    client.messages.create(**asking("first"), extra_headers={"X-Trace": "7"})
    client.beta.messages.create(**asking("second"), betas=["some-beta"], extra_query={"beta": "true"})
    first, second = claude.calls
    assert (first.number, first.path, first.text) == (1, "/v1/messages", "first")
    assert (second.number, second.path, second.text) == (2, "/v1/messages?beta=true", "second")
    assert (first.headers["x-trace"], second.headers["anthropic-beta"]) == ("7", "some-beta")
    assert before <= first.at <= second.at <= time.time()
    assert first.body == asking("first")
    claude.calls.clear()
    assert claude.count == 2


def test_latency_comes_before_the_response_and_can_change_while_running(
    claude: ClaudeServer, client: anthropic.Anthropic
) -> None:
    def seconds(**more: Any) -> float:
        start = time.monotonic()
        client.messages.create(**asking("x"), **more)
        return time.monotonic() - start

    claude.latency = 0.2
    assert seconds() >= 0.2
    assert seconds(stream=True) >= 0.2
    claude.latency = 60
    claude.script(Reply.text("x", latency=0.0))
    assert seconds(timeout=30) < 30
    claude.latency = 0.0
    assert seconds(timeout=30) < 30


def test_in_flight_and_peak_count_what_is_being_answered(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    gate = threading.Event()

    def answer(received: Received) -> Reply:
        gate.wait(10)
        return Reply.text("x")

    claude.answer = answer
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(lambda: client.messages.create(**asking("x"))) for _ in range(4)]
        assert eventually(lambda: claude.in_flight == 4)
        gate.set()
        for one in asked:
            one.result(10)
    assert (claude.in_flight, claude.peak) == (0, 4)
    claude.reset()
    assert claude.peak == 0


def test_one_caller_after_another_is_never_counted_as_two(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    for _ in range(200):
        client.messages.create(**asking("x"))
        assert claude.in_flight == 0
    assert claude.peak == 1


def test_reset_goes_back_to_the_start(claude: ClaudeServer, client: anthropic.Anthropic) -> None:
    claude.latency, claude.answer = 5.0, lambda received: Reply.text("mine")
    claude.promptcache.minimum, claude.promptcache.lag = 0, 3.0
    claude.script(Reply.error(500, latency=0.0), Reply.error(500))
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**asking("x"))
    claude.reset()
    assert (claude.count, claude.latency, claude.promptcache.minimum, claude.promptcache.lag) == (0, 0.0, 1024, 0.0)
    assert text_of(client.messages.create(**asking("x"))).startswith("Answer")
    assert claude.calls[0].number == 1
