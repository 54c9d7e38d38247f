"""Messages in the API's JSON shape, and the same messages as streams of events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from aicache.testing.prompt import CHARACTERS_PER_TOKEN, tokens_of
from aicache.testing.reply import Block, Reply

Event = dict[str, Any]

TEXT_STEP = 12
"""Characters of text in one delta."""

JSON_STEP = 7
"""Characters of a tool's input in one delta: odd, so that keys, escapes and numbers get cut."""

CLOSING_FIELDS = ("container", "stop_details", "stop_reason", "stop_sequence")
"""Fields of the message that a stream only tells in `message_delta.delta`."""

CLOSING_USAGE = ("server_tool_use", "output_tokens_details", "iterations")
"""Counts that a stream only tells in `message_delta.usage`."""

CUMULATIVE_USAGE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
"""Counts that a stream tells at both ends."""


def identifier(prefix: str) -> str:
    """Unique: `msg_01…`, `req_01…`, `toolu_01…`."""
    return f"{prefix}_01{uuid4().hex[:22]}"


def compact(value: Any) -> bytes:
    """JSON as the API sends it: UTF-8, no blanks. A lone surrogate, which UTF-8 cannot say, becomes `?`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def failure(type: str, message: str, request_id: str) -> dict[str, Any]:
    """The API's error body."""
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": request_id}


def message(reply: Reply, request: Mapping[str, Any], input_usage: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as a whole, cut where the request's stop sequences and `max_tokens` cut it."""
    ending = fit(reply, request)
    content = [_named(block) for block in ending.content]
    return {
        "model": request["model"],
        "id": identifier("msg"),
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": ending.stop_reason,
        "stop_sequence": ending.stop_sequence,
        "usage": {
            **input_usage,
            "output_tokens": sum(map(tokens_of, content)),
            "service_tier": "standard",
            **reply.usage,
        },
        **reply.fields,
    }


@dataclass(frozen=True)
class Ending:
    content: Sequence[Block]
    stop_reason: str
    stop_sequence: str | None


def fit(reply: Reply, request: Mapping[str, Any]) -> Ending:
    """How much of the answer the request lets through, and why it stops there.

    Text and thinking are cut to the token; any other block either fits or is left out, and so is
    all that follows it.
    """
    ending = Ending(reply.content, reply.stop_reason, reply.stop_sequence)
    ending = _stopped(ending, request.get("stop_sequences") or ())
    return _truncated(ending, request["max_tokens"])


def _stopped(ending: Ending, sequences: Sequence[str]) -> Ending:
    for position, block in enumerate(ending.content):
        if block["type"] != "text":
            continue
        found = [(at, sequence) for sequence in sequences if (at := block["text"].find(sequence)) >= 0]
        if found:
            at, sequence = min(found)
            last = [{**block, "text": block["text"][:at]}] if at else []
            return Ending([*ending.content[:position], *last], "stop_sequence", sequence)
    return ending


def _truncated(ending: Ending, max_tokens: int) -> Ending:
    left = max_tokens
    for position, block in enumerate(ending.content):
        if tokens_of(block) > left or max_tokens == 0:
            kind = block["type"]
            whole = kind not in ("text", "thinking") or left == 0
            last = [] if whole else [{**block, kind: block[kind][: left * CHARACTERS_PER_TOKEN]}]
            return Ending([*ending.content[:position], *last], "max_tokens", None)
        left -= tokens_of(block)
    return ending if max_tokens else replace(ending, stop_reason="max_tokens", stop_sequence=None)


def _named(block: Block) -> Block:
    if block["type"] in ("tool_use", "server_tool_use") and "id" not in block:
        return {**block, "id": identifier("toolu" if block["type"] == "tool_use" else "srvtoolu")}
    return block


def events(message: Mapping[str, Any]) -> list[Event]:
    """The message as the API streams it. The SDK's accumulator makes the same message of them."""
    return [_start(message), *_content(message["content"]), _closing(message), {"type": "message_stop"}]


def encode(event: Event) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), compact(event))


def _start(message: Mapping[str, Any]) -> Event:
    usage = {name: count for name, count in message["usage"].items() if name not in CLOSING_USAGE}
    opened = {name: value for name, value in message.items() if name not in (*CLOSING_FIELDS, "context_management")}
    opened |= {"content": [], "stop_reason": None, "stop_sequence": None}
    opened["usage"] = {**usage, "output_tokens": min(1, usage["output_tokens"])}
    return {"type": "message_start", "message": opened}


def _content(content: Sequence[Block]) -> Iterator[Event]:
    for index, block in enumerate(content):
        opened, deltas = _unfold(block)
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}


def _unfold(block: Block) -> tuple[Block, list[Block]]:
    """The block as it opens, and the deltas that fill it. What the API sends in one piece has none."""
    opened: Block
    deltas: list[Block]
    match block["type"]:
        case "text":
            opened = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _parts(block["text"], TEXT_STEP)]
            if block.get("citations"):
                opened["citations"] = []
                deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        case "thinking":
            opened = {**block, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _parts(block["thinking"], TEXT_STEP)]
            deltas += [{"type": "signature_delta", "signature": block.get("signature", "")}]
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            opened = {**block, "input": {}}
            text = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *_parts(text, JSON_STEP))]
        case "compaction":
            summary: Block = {"content": block.get("content"), "encrypted_content": block.get("encrypted_content")}
            opened = {**block, "content": None, "encrypted_content": None}
            deltas = [{"type": "compaction_delta", **summary}]
        case _:
            opened, deltas = block, []
    return opened, deltas


def _parts(text: str, step: int) -> list[str]:
    return [text[start : start + step] for start in range(0, len(text), step)]


def _closing(message: Mapping[str, Any]) -> Event:
    usage = {name: message["usage"][name] for name in (*CUMULATIVE_USAGE, *CLOSING_USAGE) if name in message["usage"]}
    event = {
        "type": "message_delta",
        "delta": {name: message[name] for name in CLOSING_FIELDS if name in message},
        "usage": usage,
    }
    if "context_management" in message:
        event["context_management"] = message["context_management"]
    return event
