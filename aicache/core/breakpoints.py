"""Where a request lets the provider's prompt cache end a prefix: found, and placed for who has placed none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MARKER: Final = "cache_control"
EPHEMERAL: Final = {"type": "ephemeral"}
# The API refuses more.
MOST: Final = 4
# How long a prefix lives after it was last read or written, by the ``ttl`` of its marker.
LIVES: Final[Mapping[str, float]] = {"5m": 300.0, "1h": 3600.0}
# Blocks that the API lets nobody mark.
UNMARKABLE: Final = ("thinking", "redacted_thinking")
# Blocks that are marked for a caller who has marked none: of others nobody knows whether the API takes it.
MARKED_FOR_CALLERS: Final = ("text", "image", "document", "search_result", "tool_use", "tool_result")


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """After the block at ``position``. ``life``: seconds."""

    position: int
    life: float


def blocks_of(body: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Place and block, in the order in which the provider reads them. Of a message the place is all that it says
    besides; one that has no block has None. Whoever asks with nonsense gets nonsense."""
    found: list[tuple[Any, Any]] = [("tools", tool) for tool in _listed(body.get("tools"))]
    found += [("system", block) for block in _content(body.get("system"))]
    for message in _listed(body.get("messages")):
        if isinstance(message, Mapping):
            said = {name: value for name, value in message.items() if name != "content"}
            found += [(said, block) for block in _content(message.get("content")) or [None]]
    return found


def breakpoints(body: Mapping[str, Any], blocks: list[tuple[Any, Any]]) -> list[Breakpoint]:
    """In the order of the blocks, which are the body's. A marker at the top is one on the last block that takes one."""
    marks = {
        position: _life(control)
        for position, (_, block) in enumerate(blocks)
        if (control := _control(block)) is not None
    }
    if isinstance(control := body.get(MARKER), Mapping):
        takes = (at for at in reversed(range(len(blocks))) if _may_take(blocks[at][1]))
        if (last := next(takes, None)) is not None:
            marks.setdefault(last, _life(control))
    return [Breakpoint(position, marks[position]) for position in sorted(marks)]


def placed(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with breakpoints at the end of its system prompt, of its last message and of its tools, as far as the
    API takes more; the caller's own stay where they are."""
    blocks_before = blocks_of(body)
    controls = [list(_controls(block)) for _, block in blocks_before]
    left = MOST - sum(map(len, controls)) - isinstance(body.get(MARKER), Mapping)
    # The API wants longer lives first: a short one before the caller's long one is refused.
    long = [at for at, found in enumerate(controls) if any(_life(control) > LIVES["5m"] for control in found)]
    long += [mark.position for mark in breakpoints(body, blocks_before) if mark.life > LIVES["5m"]]
    last_long = max(long, default=-1)
    at = {"tools": len(_listed(body.get("tools")))}
    at["system"] = at["tools"] + len(_content(body.get("system")))
    marked = dict(body)
    for place, start, blocks in (
        ("system", at["tools"], _content(body.get("system"))),
        ("messages", at["system"], _last_content(body)),
        ("tools", 0, _listed(body.get("tools"))),
    ):
        if place == "messages":
            if isinstance(body.get(MARKER), Mapping):  # it marks the last block, wherever that is
                continue
            start = len(blocks_before) - len(blocks)
        found = next((index for index in reversed(range(len(blocks))) if _takes(place, blocks[index])), None)
        if left <= 0 or found is None or any(True for block in blocks[found:] for _ in _controls(block)):
            continue
        if start + found < last_long:
            continue
        fresh = [*blocks[:found], {**blocks[found], MARKER: dict(EPHEMERAL)}, *blocks[found + 1 :]]
        if place == "messages":
            *others, last = _listed(body.get("messages"))
            marked["messages"] = [*others, {**last, "content": fresh}]
        else:
            marked[place] = fresh
        left -= 1
    return marked


def _takes(place: str, block: Any) -> bool:
    """Whether the API lets this block be marked, for certain."""
    if not isinstance(block, Mapping):
        return False
    if place == "tools":
        whole = block.get("default_config")
        later = whole.get("defer_loading") if isinstance(whole, Mapping) else None
        return not (block.get("defer_loading") or later)  # one that is loaded later is in no prefix
    kind = _kind(block)
    return kind in MARKED_FOR_CALLERS and (kind != "text" or bool(block.get("text")))


def _last_content(body: Mapping[str, Any]) -> list[Any]:
    messages = _listed(body.get("messages"))
    return _content(messages[-1].get("content")) if messages and isinstance(messages[-1], Mapping) else []


def _control(block: Any) -> Mapping[str, Any] | None:
    """The block's marker; one on a part of a tool's result marks the whole result."""
    if not isinstance(block, Mapping):
        return None
    inner = _listed(block.get("content")) if _kind(block) == "tool_result" else []
    found = (part.get(MARKER) for part in (block, *inner) if isinstance(part, Mapping))
    return next((control for control in found if isinstance(control, Mapping)), None)


def _controls(value: Any) -> Iterator[Mapping[str, Any]]:
    """All the markers that the API may count in a block."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _controls(item)
    elif isinstance(value, Mapping):
        if isinstance(control := value.get(MARKER), Mapping):
            yield control
        for name in ("content", "source"):
            yield from _controls(value.get(name))


def _may_take(block: Any) -> bool:
    return isinstance(block, Mapping) and _kind(block) not in UNMARKABLE


def _life(control: Mapping[str, Any]) -> float:
    ttl = control.get("ttl")
    return LIVES.get(ttl, LIVES["5m"]) if isinstance(ttl, str) else LIVES["5m"]


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, Mapping) else None


def _content(content: Any) -> list[Any]:
    """A bare text is the API's shorthand for one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else _listed(content)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
