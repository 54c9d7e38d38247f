"""May this request be answered at all? If not: the error that the API would give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from aicache.testing.prompt import Prompt
from aicache.testing.reply import Reply

MAX_BREAKPOINTS = 4

REQUIRED: dict[str, type] = {"model": str, "messages": list}


def refusal(headers: Mapping[str, str], body: Any, *, answer_wanted: bool = True) -> Reply | None:
    """The error for the first thing that is wrong, or None. `answer_wanted`: not just a count."""
    if not headers.get("x-api-key") and not headers.get("authorization"):
        return Reply.error(401, message="x-api-key header is required")
    if not isinstance(body, dict):
        return Reply.error(400, message="The request body is not valid JSON")
    complaint = next(_complaints(headers, body, answer_wanted), None)
    return Reply.error(400, message=complaint) if complaint else None


def _complaints(headers: Mapping[str, str], body: dict[str, Any], answer_wanted: bool) -> Iterator[str]:
    """In an order that lets each look rely on those before it."""
    required = {**REQUIRED, "max_tokens": int} if answer_wanted else REQUIRED
    for name, kind in required.items():
        if name not in body:
            yield f"{name}: Field required"
        elif not isinstance(body[name], kind):
            yield f"{name}: Input should be a valid {kind.__name__}"
    if body.get("max_tokens", 0) < 0:
        yield "max_tokens: must be greater than or equal to 0"
    if not body["messages"]:
        yield "messages: at least one message is required"
    for number, turn in enumerate(body["messages"]):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str) or not _is_content(turn.get("content")):
            yield f"messages.{number}: Input should have a role and content"
    if not _is_content(body.get("system") or []):
        yield "system: Input should be a valid string or list of blocks"
    if not _is_blocks(body.get("tools") or []):
        yield "tools: Input should be a valid list"
    yield from _complaints_about_breakpoints(Prompt(body, headers))


def _complaints_about_breakpoints(prompt: Prompt) -> Iterator[str]:
    marks = prompt.breakpoints
    if len(marks) > MAX_BREAKPOINTS:
        yield f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marks)}."
    if any((before.life, after.life) == ("5m", "1h") for before, after in pairwise(marks)):
        yield "cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"


def _is_content(value: Any) -> bool:
    return isinstance(value, str) or _is_blocks(value)


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(block, dict) for block in value)
