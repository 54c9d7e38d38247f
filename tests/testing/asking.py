"""Small requests, and what tests ask about their answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

MODEL = "claude-sonnet-5"


def asking(text: str, **more: Any) -> dict[str, Any]:
    """Arguments of a small request."""
    return {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": text}], **more}


def collect(stream: Any, seen: list[str]) -> None:
    """The types of a stream's events, as far as it comes."""
    for event in stream:
        seen.append(event.type)


def text_of(message: Any) -> str:
    return str(message.content[0].text)


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()
