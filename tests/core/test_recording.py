from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.folding import unfolded
from aicache.core.recording import LONGEST_EVENT, Recording
from aicache.core.sse import written
from tests.core.test_folding import JSON, SDK, Block, Event, messages, wire
from tests.core.test_sse import chunked

TOTALS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
    "output_tokens_details",
    "iterations",
    "fallback_credit",
)
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT = b": still there\n\n"
# What the SDK does not look at.
PASSED_OVER = [COMMENT, b'data: {"type": "message_stop"}\n\n', b"event: message_stop\n\n", b"id: 1\nretry: 5\n\n"]


@dataclass(frozen=True)
class Streamed:
    """A message as upstream may stream it."""

    message: dict[str, Any]
    events: list[bytes]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def parts(draw: st.DrawFn, text: str) -> list[str]:
    """Cut anywhere, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    return [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]


def parted(draw: st.DrawFn, block: Block, beta: bool) -> tuple[Block, list[Block]]:
    """A block as it opens, and the deltas that fill it."""
    match block["type"]:
        case "text":
            first, *rest = parts(draw, block["text"])
            begun, deltas, at = {**block, "text": first}, [{"type": "text_delta", "text": part} for part in rest], 0
            for citation in block.get("citations") or ():
                begun["citations"] = draw(st.sampled_from([None, []]))
                at = draw(st.integers(at, len(deltas)))
                deltas.insert(at, {"type": "citations_delta", "citation": citation})
                at += 1
        case "thinking":
            begun = {**block, "thinking": "", "signature": ""}
            more = st.sampled_from([{}, {"estimated_tokens": None}, {"estimated_tokens": 64}] if beta else [{}])
            deltas = [
                {"type": "thinking_delta", "thinking": part, **draw(more)} for part in parts(draw, block["thinking"])
            ]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            said = json.dumps(block["input"], ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
            if not block["input"] and draw(st.booleans()):
                said = ""
            begun = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts(draw, said)]
        case "compaction":
            begun = {name: value for name, value in block.items() if name != "encrypted_content"} | {"content": None}
            told = {name: block[name] for name in ("content", "encrypted_content") if name in block}
            deltas = [{"type": "compaction_delta", **told}]
        case _:
            begun, deltas = block, []
    return begun, deltas


def ends(draw: st.DrawFn, message: dict[str, Any]) -> tuple[Event, Event]:
    """What is told before the content of a message, and what after it."""
    usage, said_last = message["usage"], ["stop_reason", "stop_sequence", "stop_details"]
    said_last += ["container"] if draw(st.booleans()) else []
    late = {name for name in TOTALS if usage.get(name) is not None and draw(st.booleans())}
    early = {name: count for name, count in usage.items() if name not in late}
    begun = {name: value for name, value in message.items() if name not in said_last}
    begun |= {"content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {"input_tokens": 0, **early, "output_tokens": 1}
    begun["model"] = next((b["from"]["model"] for b in message["content"] if b["type"] == "fallback"), message["model"])
    unsaid: dict[str, Any] = {name: None for name in TOTALS if name not in late and draw(st.booleans())}
    ended: Event = {
        "type": "message_delta",
        "delta": {"container": None} | {name: message[name] for name in said_last if name in message},
        "usage": {**unsaid, **{name: usage[name] for name in (*late, "output_tokens")}},
    }
    for name in ("context_management", "input_transformations"):
        if name in message and draw(st.booleans()):
            ended[name] = begun.pop(name)
    return {"type": "message_start", "message": begun}, ended


def events_of(draw: st.DrawFn, message: dict[str, Any], beta: bool) -> list[Event]:
    """The events of a message."""
    begun, ended = ends(draw, message)
    events = [begun]
    for index, block in enumerate(message["content"]):
        opened, deltas = parted(draw, block, beta)
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    return [*events, ended, {"type": "message_stop"}]


@st.composite
def streamed(draw: st.DrawFn, beta: bool = True) -> Streamed:
    message, ensure_ascii, end = draw(messages(beta)), draw(st.booleans()), draw(st.sampled_from([b"\n", b"\r\n"]))
    events = [wire(event, ensure_ascii) for event in events_of(draw, message, beta)]
    for at in draw(st.lists(st.integers(0, len(events) - 1), max_size=3)):
        events.insert(at, draw(st.sampled_from([PING, *PASSED_OVER])))
    events = [event.replace(b"\n", end) for event in events]
    return Streamed(message, events, draw(chunked(st.just(b"".join(events)))))


def as_event(value: Any) -> bytes:
    return b"event: x\ndata: " + json.dumps(value).encode() + b"\n\n"


JUNK = st.sampled_from(
    [None, True, 0, 1, 0.5, "", "x", "{", "text", "thinking", "tool_use", "text_delta", "message_stop", [], {}, [{}]]
)
KEYS = st.sampled_from(["x", "type", "index", "text", "content", "input", "citations", "stop_reason", "speed", "usage"])


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A stream in which some events are left out, doubled, moved, or say something else."""
    events: list[Event] = json.loads(json.dumps(events_of(draw, draw(messages(beta=True)), beta=True)))
    for _ in range(draw(st.integers(1, 2))):
        at, to = draw(st.integers(0, len(events) - 1)), draw(st.integers(0, len(events) - 1))
        match draw(st.sampled_from(["leave out", "double", "move", "say", "say", "say"])):
            case "leave out" if len(events) > 1:
                del events[at]
            case "double":
                events.insert(to, json.loads(json.dumps(events[at])))
            case "move":
                events[at], events[to] = events[to], events[at]
            case _:
                inside: Any = draw(st.sampled_from([*dicts(events[at])]))
                key = draw(st.sampled_from(sorted(inside)) if inside and draw(st.booleans()) else KEYS)
                if draw(st.booleans()):
                    inside[key] = draw(JUNK)
                else:
                    inside.pop(key, None)
    return b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from dicts(inner)


def deeper(frames: int, call: Callable[[], bytes]) -> bytes:
    return deeper(frames - 1, call) if frames else call()


# One of each, with a ping and a comment; what is read of it is the same with either line end.
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [
        {"type": "thinking", "thinking": "Hm ❄.", "signature": "c2ln"},
        {"type": "text", "text": "A secret."},
        {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"a": ["secret"]}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 9},
}
EVENTS = [PING, *map(written, unfolded(MESSAGE, 4)), PING, COMMENT]
EVENTS.append(EVENTS.pop(-3))  # the end
LF = b"".join(EVENTS)
CRLF = LF.replace(b"\n", b"\r\n")
BODIES = pytest.mark.parametrize("body", [LF, CRLF], ids=["lf", "crlf"])


def without_pings(events: list[bytes]) -> bytes:
    return b"".join(event for event in events if not event.startswith(b"event: ping"))


def as_given(chunks: list[bytes]) -> tuple[int, int]:
    """How many bytes have been given before the last chunk, and how many may be given of it."""
    recording, given_before = Recording(), 0
    for chunk in chunks:
        recording.feed(chunk)
        if recording.is_over():
            return given_before, recording.before_last(chunk)
        given_before += len(chunk)
    raise AssertionError("it did not end")


class TestAStream:
    @pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_is_recorded_as_the_sdk_accumulates_it(self, beta: bool, data: st.DataObject) -> None:
        stream = data.draw(streamed(beta))
        recording = Recording()
        kept = [recording.feed(chunk) for chunk in stream.chunks]

        assert (recording.is_whole, recording.has_failed, recording.is_spoiled) == (True, False, False)
        assert b"".join(kept) == without_pings(stream.events)
        assert recording.size == sum(map(len, kept))
        said = SDK.plain(recording.body, beta)
        assert said == SDK.streamed(stream.body, beta) == SDK.streamed(b"".join(kept), beta)
        assert said == SDK.plain(json.dumps(stream.message).encode(), beta)

    @settings(deadline=None, max_examples=60)
    @given(streamed())
    def test_can_be_given_but_for_its_last_event(self, stream: Streamed) -> None:
        given_before, before_last = as_given(stream.chunks)

        assert before_last == max(len(b"".join(stream.events[:-1])) - given_before, 0)

    @BODIES
    @pytest.mark.parametrize("step", [1, 5, 30, 40, 60, 10_000])
    def test_can_be_given_but_for_what_the_last_chunk_has_of_its_last_event(self, body: bytes, step: int) -> None:
        given_before, before_last = as_given([body[at : at + step] for at in range(0, len(body), step)])

        assert before_last == max(body.index(b"event: message_stop") - given_before, 0)

    @pytest.mark.parametrize("number", range(len(EVENTS)))
    @pytest.mark.parametrize("event", PASSED_OVER, ids=repr)
    def test_is_the_same_with_what_the_sdk_does_not_look_at(self, number: int, event: bytes) -> None:
        events, recording = [*EVENTS[:number], event, *EVENTS[number:]], Recording()

        assert recording.feed(b"".join(events)) == without_pings(events)
        assert json.loads(recording.body) == MESSAGE

    @BODIES
    @pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
    def test_is_whole_with_its_last_byte_and_not_before(self, body: bytes, step: int) -> None:
        recording = Recording()
        for at in range(0, len(body), step):
            assert not recording.is_over()
            assert recording.body == b""
            recording.feed(body[at : at + step])

        assert recording.is_whole
        assert json.loads(recording.body) == MESSAGE

    @BODIES
    def test_is_not_whole_wherever_it_breaks_off(self, body: bytes) -> None:
        for length in range(len(body)):
            recording = Recording()
            recording.feed(body[:length])

            assert (recording.is_over(), recording.body) == (False, b"")

    @BODIES
    def test_ends_where_its_message_does(self, body: bytes) -> None:
        recording = Recording()
        more = b"".join(map(written, unfolded({**MESSAGE, "stop_reason": "refusal"})))

        kept = recording.feed(body + more)
        before = recording.before_last(body + more)

        assert kept == without_pings(EVENTS).replace(b"\n", b"\r\n" if body is CRLF else b"\n")
        assert (body + more)[before:].startswith(b"event: message_stop")
        assert recording.feed(more) == b""
        assert recording.size == len(kept)
        assert json.loads(recording.body) == MESSAGE

    @pytest.mark.parametrize("number", range(len(EVENTS)))
    def test_fails_with_an_error_in_it(self, number: int) -> None:
        error = wire({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        body = b"".join([*EVENTS[:number], error, *EVENTS[number:]])
        recording = Recording()

        assert recording.feed(body) == without_pings([*EVENTS[:number], error])
        assert (recording.is_whole, recording.has_failed, recording.is_spoiled) == (False, True, False)
        assert recording.before_last(body) == len(b"".join(EVENTS[:number]))
        assert recording.feed(LF) == recording.body == b""

    @pytest.mark.parametrize("number", range(len(EVENTS)))
    @pytest.mark.parametrize("data", [b"{", b"", b"\xff", b"[" * 100_000, b"1" * 5000], ids=lambda data: repr(data[:9]))
    def test_is_spoiled_by_what_is_no_json(self, number: int, data: bytes) -> None:
        strange = b"event: message_delta\ndata: " + data + b" \n\n"
        recording = Recording()

        assert recording.feed(b"".join([*EVENTS[:number], strange, *EVENTS[number:]])) == without_pings(EVENTS[:number])
        assert (recording.is_whole, recording.has_failed, recording.is_spoiled) == (False, False, True)
        assert recording.feed(LF) == recording.body == b""

    def test_is_spoiled_by_an_event_without_end(self) -> None:
        recording, much = Recording(), b"x" * (LONGEST_EVENT // 4)
        for _ in range(4):
            recording.feed(much)
            assert not recording.is_over()

        assert recording.feed(b"x") == b""
        assert recording.is_spoiled

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.binary(max_size=20) | st.sampled_from(EVENTS) | JSON.map(as_event), max_size=12))
    def test_may_be_anything(self, chunks: list[bytes]) -> None:
        recording = Recording()
        kept = b"".join(map(recording.feed, chunks))

        assert recording.size == len(kept) <= len(b"".join(chunks))
        assert not recording.body or recording.is_whole
        recording.forget()
        assert recording.body == b""

    @pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
    @settings(deadline=None, max_examples=150)
    @given(mangled())
    def test_is_never_taken_for_what_the_sdk_does_not_take_it_for(self, body: bytes) -> None:
        recording = Recording()
        kept = recording.feed(body)

        if recording.body:
            assert SDK.plain(recording.body) == SDK.streamed(kept)

    def test_may_nest_deeper_than_can_be_written(self) -> None:
        nested: Any = []
        for _ in range(700):
            nested = [nested]
        events = [*unfolded({**MESSAGE, "content": [{"type": "deep", "nested": nested}]})]
        recording = Recording()
        recording.feed(b"".join(map(written, events)))

        assert json.loads(recording.body)["content"][0]["nested"] == nested
        assert deeper(350, lambda: recording.body) in (recording.body, b"")


class TestForgetting:
    @pytest.mark.parametrize("number", range(len(EVENTS)))
    def test_keeps_what_a_message_is_and_not_what_it_says(self, number: int) -> None:
        recording = Recording()
        recording.feed(b"".join(EVENTS[:number]))
        recording.forget()

        assert recording.feed(b"".join(EVENTS[number:])) == without_pings(EVENTS[number:])
        assert recording.is_whole
        assert recording.body == b""
        kinds = [{"type": block["type"]} for block in MESSAGE["content"]]
        assert recording.message == {**MESSAGE, "content": kinds}

    def test_drops_what_has_been_said(self) -> None:
        recording = Recording()
        recording.feed(b"".join(EVENTS[:-1]))
        assert "secret" in json.dumps(recording.message)

        recording.forget()

        assert "secret" not in json.dumps(recording.message)

    @pytest.mark.parametrize("block", [None, 1, "text", [], {}, {"text": "x"}, {"type": None}, {"type": []}])
    def test_takes_whatever_has_come(self, block: Any) -> None:
        recording = Recording()
        recording.feed(EVENTS[1] + wire({"type": "content_block_start", "index": 0, "content_block": block}))

        recording.forget()

        recording.feed(b"".join(EVENTS[-4:]))
        assert recording.is_whole
        assert recording.message is not None
        assert recording.message["stop_reason"] == "tool_use"
