"""A stored answer, or the request that it is one to, as people read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from django.utils.safestring import SafeString

from aicache.admin.markdown import rendered
from aicache.store.payload import Unreadable, read_entry

LONGEST: Final = 50_000  # characters of an answer, or of a request, on one page
MOST: Final = 200  # blocks
SHORT: Final = 200  # characters of a name, or of a figure


@dataclass(frozen=True, slots=True)
class Block:
    """``kind``: as upstream calls it, and "" of what is no message. ``text``: as it was written; templates escape it.
    ``shown``: what that means as Markdown, as HTML; None where it is none. ``more``: so many characters are not shown.
    """

    kind: str
    text: str
    is_code: bool = False
    more: int = 0
    shown: SafeString | None = None

    @property
    def is_thought(self) -> bool:
        return self.kind == "thinking"


@dataclass(frozen=True, slots=True)
class Readable:
    """``more``: so many blocks are not shown. ``about``, ``usage``, ``headers``: names and values."""

    blocks: list[Block]
    more: int
    about: list[tuple[str, str]]
    usage: list[tuple[str, str]]
    headers: list[tuple[str, str]]

    @property
    def has_two_forms(self) -> bool:
        return any(block.shown is not None for block in self.blocks)


def answered(payload: bytes) -> Readable | None:
    """None: it is unreadable."""
    try:
        answer = read_entry(payload).answer
    except Unreadable:
        return None
    said = parsed(answer.body)
    blocks = list(_blocks(answer.body or answer.events, said))
    message = said if isinstance(said, dict) and said.get("type") == "message" else {}
    usage = message.get("usage")
    return Readable(
        [_with_its_meaning(block) for block in _cut(blocks[:MOST])],
        len(blocks[MOST:]),
        [(name, _short(said)) for name in ("stop_reason", "id", "model") if isinstance(said := message.get(name), str)],
        list(_figures(usage))[:MOST] if isinstance(usage, dict) else [],
        [(name, _short(value)) for name, value in answer.headers if _is_worth_showing(name)],
    )


def asked_for(request: str) -> Block:
    """The request's body."""
    given = parsed(request)
    (block,) = _cut([Block("", request) if given is None else _code("", given)])
    return block


def parsed(document: str | bytes) -> Any:
    """None: it is no JSON, or none that can be read."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None


def _blocks(body: bytes, said: Any) -> Iterator[Block]:
    content = said.get("content") if isinstance(said, dict) and said.get("type") == "message" else None
    if isinstance(content, list):
        for block in content:
            yield from _of_message(block)
    elif said is None and body.strip() != b"null":
        yield Block("", _plain(body.decode(errors="replace")))
    else:
        yield _code("", said)


def _of_message(block: Any) -> Iterator[Block]:
    kind = _named(block, "type")
    if kind in ("text", "thinking") and isinstance(text := block.get(kind), str):
        yield Block(kind, _plain(text))
        if citations := block.get("citations"):
            yield _code("citations", citations)
    elif kind in ("tool_use", "server_tool_use") and "input" in block:
        yield _code(f"{kind}: {_named(block, 'name')}", block["input"])
    else:
        yield _code(kind, block)


def _named(block: Any, name: str) -> str:
    found = block.get(name) if isinstance(block, dict) else None
    return _short(found) if isinstance(found, str) else ""


def _code(kind: str, value: Any) -> Block:
    try:
        return Block(kind, _plain(json.dumps(value, ensure_ascii=False, indent=2)), is_code=True)
    except RecursionError:
        return Block(kind, "…", is_code=True)


def _plain(text: str) -> str:
    """JSON can spell half a character, which no page can be sent with."""
    return text.encode(errors="replace").decode()


def _cut(blocks: list[Block]) -> Iterator[Block]:
    left = LONGEST
    for block in blocks:
        yield replace(block, text=block.text[:left], more=max(len(block.text) - left, 0))
        left = max(left - len(block.text), 0)


def _with_its_meaning(block: Block) -> Block:
    return replace(block, shown=rendered(block.text)) if block.kind == "text" and not block.is_code else block


def _short(text: str) -> str:
    return _plain(text[:SHORT])


def _figures(usage: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in usage.items():
        if isinstance(value, dict) and not within:
            yield from _figures(value, f"{name}.")
        elif isinstance(value, str | int | float):
            yield _short(f"{within}{name}"), _short(str(value))


def _is_worth_showing(name: str) -> bool:
    return name == "request-id" or name.startswith("anthropic-")
