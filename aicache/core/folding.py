"""Messages ⇄ the events that they are streamed as. Whatever the SDK accumulates of the events is the message."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jiter

Event = Mapping[str, Any]
Block = dict[str, Any]

# Whose input comes as the text of a JSON value, in parts.
WITH_INPUT: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
# Deltas that lengthen a text of their block, by their type: the block's type, and the field of both.
LENGTHEN: Final[Mapping[str, tuple[str, str]]] = {"text_delta": ("text", "text"), "thinking_delta": ("thinking",) * 2}
# What a delta may say in passing that is no part of a message.
HINTS: Final = ("estimated_tokens",)
# Deltas that replace fields of their block.
REPLACE: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "signature_delta": ("thinking", ("signature",)),
    "compaction_delta": ("compaction", ("content", "encrypted_content")),
}
# What a message says of its end, and where: in message_delta's delta, or beside it.
ENDS: Final = ("stop_reason", "stop_sequence", "stop_details")
SAID_IN_DELTA: Final = (*ENDS, "container")
SAID_BESIDE: Final = ("context_management", "input_transformations")
# Counts that are told at both ends of a stream: the later ones are the totals.
TOTALS: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "server_tool_use",
    "output_tokens_details",
    "iterations",
    "fallback_credit",
)


class _Unknown(Exception):
    """What nobody knows how to add up."""


class Folding:
    """Adds up events. ``message``: what they come to so far. ``is_exact``: a plain answer would be the very same.

    What is not known does no harm: the message then is about right, and not exact.
    """

    def __init__(self) -> None:
        self.message: dict[str, Any] | None = None
        self.is_exact = True
        self._parts: list[str] | None = None  # of the block that is open
        self._field = ""
        self._open: Block | None = None
        self._brief = False

    def add(self, event: Event) -> None:
        """Raises nothing."""
        try:
            self._add(event)
        except (_Unknown, KeyError, TypeError, ValueError, AttributeError, IndexError):
            self.is_exact = False

    def forget(self) -> None:
        """Keeps what the blocks are and no more what they say: it would be too much."""
        self.is_exact, self._brief = False, True
        self._parts = self._open = None
        if self.message is not None:
            self.message["content"] = [{"type": block.get("type")} for block in self.message["content"]]

    def _add(self, event: Event) -> None:
        kind = event["type"]
        if kind == "message_start":
            _only(self.message is None)
            message = event["message"]
            _only(isinstance(message, dict) and message.get("content") == [])
            self.message = message
            return
        if self.message is None:
            raise _Unknown(kind)
        match kind:
            case "content_block_start":
                self._begin(event)
            case "content_block_delta":
                if not self._brief:
                    self._lengthen(self._at(event), event["delta"])
            case "content_block_stop":
                if not self._brief:
                    self._end(self._at(event))
            case "message_delta":
                self._close(self.message, event)
            case "message_stop":
                _only(self._open is None)
            case _:
                raise _Unknown(kind)

    def _begin(self, event: Event) -> None:
        content, block = self.message["content"], event["content_block"]  # type: ignore[index]  # there is one
        kind, in_order = block["type"], self._open is None and event["index"] == len(content)
        content.append({"type": kind} if self._brief else block)
        if kind == "fallback":  # another model went on from here
            self.message["model"] = block["to"]["model"]  # type: ignore[index]  # there is one
        if not self._brief:
            self._open, self._parts, self._field = block, None, ""
        _only(in_order)

    def _at(self, event: Event) -> Block:
        if self._open is None or event["index"] != len(self.message["content"]) - 1:  # type: ignore[index]
            raise _Unknown(event["index"])
        return self._open

    def _lengthen(self, block: Block, delta: Mapping[str, Any]) -> None:
        kind, type_ = delta["type"], block["type"]
        if kind in LENGTHEN:
            owner, field = LENGTHEN[kind]
            _only(type_ == owner)
            known: tuple[str, ...] = (field, *HINTS)
            self._part(field, delta[field], block[field])
        elif kind == "input_json_delta":
            _only(type_ in WITH_INPUT)
            known = ("partial_json",)
            self._part("input", delta["partial_json"], "")
        elif kind in REPLACE:
            owner, known = REPLACE[kind]
            _only(type_ == owner)
            _only(known[0] in delta)
            block.update({field: delta.get(field) for field in known})
        elif kind == "citations_delta":
            _only(type_ == "text")
            known = ("citation",)
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        else:
            raise _Unknown(kind)
        _nothing_beside(delta, ("type", *known))

    def _part(self, field: str, part: Any, before: Any) -> None:
        _only(isinstance(part, str) and self._field in ("", field))
        if self._parts is None:
            self._field, self._parts = field, [before]
        self._parts.append(part)

    def _end(self, block: Block) -> None:
        parts, field = self._parts, self._field
        self._open = self._parts = None
        if parts is not None:
            said = "".join(parts)
            if field != "input":
                block[field] = said
            elif said:
                block[field] = jiter.from_json(said.encode())

    def _close(self, message: dict[str, Any], event: Event) -> None:
        delta, usage = event["delta"], event["usage"]
        for field in ENDS:
            if field in delta:
                message[field] = delta[field]
        if delta.get("container") is not None:
            message["container"] = delta["container"]
        message.update({field: event[field] for field in SAID_BESIDE if event.get(field) is not None})
        before, counts = message["usage"], {name: count for name, count in usage.items() if count is not None}
        strange = {name: count for name, count in counts.items() if name not in TOTALS and before.get(name) != count}
        before.update(counts)
        _only("output_tokens" in counts and not strange)
        _only(all(field in delta or message.get(field) is None for field in ENDS))  # to the SDK it is unsaid then
        _nothing_beside(delta, SAID_IN_DELTA)
        _nothing_beside(event, ("type", "delta", "usage", *SAID_BESIDE))


def _only(true: bool) -> None:
    if not true:
        raise _Unknown


def _nothing_beside(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if any(value is not None for name, value in given.items() if name not in known):
        raise _Unknown(sorted(given))


def unfolded(message: Mapping[str, Any], step: int | None = None) -> Iterator[dict[str, Any]]:
    """The events of a stream that comes to this message. ``step``: characters of a delta, None for all in one."""
    usage = message.get("usage")
    counts = dict(usage) if isinstance(usage, Mapping) else {}
    opened = {name: value for name, value in message.items() if name not in (*SAID_IN_DELTA, *SAID_BESIDE)}
    told: Any = counts.get("output_tokens", 0)
    opened |= {"content": [], "stop_reason": None, "stop_sequence": None}
    opened["usage"] = {**counts, "output_tokens": min(told, 1) if isinstance(told, int) else 0}
    yield {"type": "message_start", "message": opened}
    content = message.get("content")
    for index, block in enumerate(content if isinstance(content, list) else ()):
        begun, deltas = _parted(block, step)
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": None, "stop_sequence": None} | _of(message, SAID_IN_DELTA),
        "usage": {"output_tokens": 0} | _of(counts, TOTALS),
        **_of(message, SAID_BESIDE),
    }
    yield {"type": "message_stop"}


def _of(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _parted(block: Any, step: int | None) -> tuple[Any, list[Block]]:
    """A block as it opens, and the deltas that fill it. What upstream sends in one piece has none."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in ("text", "thinking") and isinstance(said := block.get(kind), str):
        begun = {**block, kind: ""}
        deltas: list[Block] = [{"type": f"{kind}_delta", kind: part} for part in _parts(said, step)]
        if kind == "text" and block.get("citations"):
            begun["citations"] = []
            deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        elif kind == "thinking" and "signature" in block:
            begun["signature"] = ""
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return begun, deltas
    if kind in WITH_INPUT and isinstance(given := block.get("input"), dict):
        said = json.dumps(given, ensure_ascii=False) if given else ""
        if _is_readable(said):
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": p} for p in _parts(said, step)]
    if kind == "compaction":
        told = {field: block.get(field) for field in REPLACE["compaction_delta"][1]}
        return {**block, **dict.fromkeys(told)}, [{"type": "compaction_delta", **told}]
    return block, []


def _is_readable(said: str) -> bool:
    """Half a character, and what is nested too deep, the SDK reads in a message and not in a delta."""
    try:
        return not said or jiter.from_json(said.encode()) is not None
    except ValueError:
        return False


def _parts(text: str, step: int | None) -> list[str]:
    if step is None:
        return [text] if text else []
    return [text[at : at + step] for at in range(0, len(text), step)]
