"""Long prompts with a breakpoint, and the report that this began with: two calls in a row, of which the second wrote
the prefix again."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aicache
from aicache.testing import ClaudeServer

MODEL: Final = "claude-sonnet-5"
EPHEMERAL: Final = {"type": "ephemeral"}
FILLER: Final = "You are a helpful assistant. "
_unique = itertools.count(1)


def system(tokens: int = 1300, mark: str = "") -> list[dict[str, Any]]:
    """A system prompt that nobody has asked with, of about so many tokens, with a breakpoint at its end."""
    words = FILLER * (tokens * 4 // len(FILLER) + 1)
    return [{"type": "text", "text": f"{mark or next(_unique)} {words}", "cache_control": EPHEMERAL}]


def question(text: str, **changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": text}], **changes}


def policies(**terms: Any) -> dict[str, Any]:
    """The setting with a policy "gated" on these terms, and "auto", which places breakpoints besides."""
    return {"gated": {"prompt_cache": terms}, "auto": {"prompt_cache": terms, "auto_prompt_cache": True}}


def lag(seed: int) -> Callable[[], float]:
    """Seconds until a write can be read, as reported: none in 60 % of the cases, else 0.3 to 1.9."""
    dice = random.Random(seed)
    return lambda: 0.0 if dice.random() < 0.6 else dice.uniform(0.3, 1.9)


@dataclass
class Report:
    redundant: int
    seconds: float
    calls: list[Any]

    @property
    def waited(self) -> float:
        return sum(call.waited for call in self.calls)


def report(claude: ClaudeServer, client: Any, times: int, policy: str = "default") -> Report:
    """Two calls in a row with one new prefix, so many times. ``redundant``: how often the second wrote it again."""
    redundant, began, calls = 0, time.monotonic(), []
    for _ in range(times):
        prefix = system()
        with aicache.scope(tenant="acme", policy=policy) as both:
            first = client.messages.create(**question("hi", system=prefix))
            second = client.messages.create(**question("hello", system=prefix))
        written = first.usage.cache_creation_input_tokens
        redundant += second.usage.cache_creation_input_tokens >= 0.9 * written > 0
        calls += both
    return Report(redundant, time.monotonic() - began, calls)
