"""One request, as it reached the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aicache.testing.prompt import Prompt


@dataclass(frozen=True)
class Received:
    path: str
    """With the query string: `/v1/messages?beta=true`."""

    headers: dict[str, str]
    """Names in lower case."""

    body: dict[str, Any]
    """The parsed JSON; empty if what came was not a JSON object."""

    at: float
    """`time.time()` when the last byte of the request had arrived."""

    number: int
    """1 for the first since the start or the last reset."""

    @property
    def text(self) -> str:
        """What the user said last, or "" where no user turn holds any text."""
        blocks = [block for place, block in Prompt(self.body, self.headers).blocks if place == "user"]
        texts = [str(block["text"]) for block in blocks if block.get("type") == "text"]
        return texts[-1] if texts else ""
