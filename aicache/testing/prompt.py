"""A request as the provider's prompt cache sees it: one row of blocks, tools → system → messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

Life = Literal["5m", "1h"]

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English. An estimate that a test can predict, not the API's tokeniser."""

IDENTITY_FIELDS = ("model", "speed", "thinking", "tool_choice", "output_config", "workspace_id")
"""Fields of the body that part two otherwise equal prefixes."""

IDENTITY_HEADERS = ("x-api-key", "authorization", "anthropic-beta", "anthropic-workspace-id")

UNMARKABLE = frozenset({"thinking", "redacted_thinking"})
"""Blocks that cannot carry a breakpoint of their own; a top-level one falls on the block before."""


def tokens_of(block: Mapping[str, Any]) -> int:
    """About four characters a token, rounded up: of the text or thinking, else of the block's JSON."""
    match block.get("type"):
        case "text" | "thinking" as kind:
            text = str(block.get(kind, ""))
        case _:
            text = _canonical(_unmarked(block))
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Breakpoint:
    position: int
    """Of the last block of the prefix that it marks."""

    life: Life


@dataclass(frozen=True)
class Prompt:
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @cached_property
    def blocks(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Place and block, in the order of the cache's prefixes."""
        return list(_blocks(self.body))

    @cached_property
    def totals(self) -> list[int]:
        """How many tokens each prefix has."""
        return list(accumulate(tokens_of(block) for _, block in self.blocks))

    @property
    def tokens(self) -> int:
        return self.totals[-1] if self.totals else 0

    @cached_property
    def breakpoints(self) -> list[Breakpoint]:
        """In the order of the blocks. The top-level `cache_control` marks the last markable block."""
        marks = [
            Breakpoint(position, _life(control))
            for position, (_, block) in enumerate(self.blocks)
            if (control := _control(block)) is not None
        ]
        if isinstance(control := self.body.get("cache_control"), dict):
            markable = (at for at, (_, block) in enumerate(self.blocks) if block.get("type") not in UNMARKABLE)
            last = max(markable, default=None)
            if last is not None and all(mark.position != last for mark in marks):
                marks = sorted([*marks, Breakpoint(last, _life(control))], key=lambda mark: mark.position)
        return marks

    @cached_property
    def identities(self) -> list[bytes]:
        """A digest for each prefix: equal exactly if one could be read in place of the other."""
        chain = hashlib.sha256()
        chain.update(_canonical([self.body.get(name) for name in IDENTITY_FIELDS]).encode())
        chain.update(_canonical([self.headers.get(name) for name in IDENTITY_HEADERS]).encode())
        digests = []
        for place, block in self.blocks:
            chain.update(hashlib.sha256(_canonical([place, _unmarked(block)]).encode()).digest())
            digests.append(chain.digest())
        return digests


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for tool in body.get("tools") or ():
        yield "tools", tool
    for block in _as_blocks(body.get("system") or ()):
        yield "system", block
    for turn in body.get("messages") or ():
        for block in _as_blocks(turn["content"]):
            yield turn["role"], block


def _as_blocks(content: Any) -> Any:
    """`content: "x"` is the API's shorthand for one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _control(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The block's marker; one inside a tool result marks the whole result."""
    inner = block.get("content") if block.get("type") == "tool_result" else None
    parts = [part for part in inner if isinstance(part, dict)] if isinstance(inner, list) else []
    controls = (part.get("cache_control") for part in (block, *parts))
    return next((control for control in controls if isinstance(control, dict)), None)


def _life(control: Mapping[str, Any]) -> Life:
    return "1h" if control.get("ttl") == "1h" else "5m"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _unmarked(block: Mapping[str, Any]) -> dict[str, Any]:
    """Without its markers, which move from turn to turn while the prefix stays the same."""
    bare = {name: value for name, value in block.items() if name != "cache_control"}
    if isinstance(bare.get("content"), list):
        bare["content"] = [_unmarked(part) if isinstance(part, dict) else part for part in bare["content"]]
    return bare
