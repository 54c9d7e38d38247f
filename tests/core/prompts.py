"""Prompts that begin alike, and books that nobody reads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from aicache.core.policy import Policy
from aicache.core.prefix import Manner, Prompt
from aicache.core.usage import PromptUse

MODEL: Final = "claude-opus-5"
TOKENS: Final = 600  # of each block: more than this model's prefixes need
MARK: Final = {"cache_control": {"type": "ephemeral"}}


class Books:
    """A token costs a dollar more to write than to read."""

    def __init__(self) -> None:
        self.uses: list[PromptUse] = []

    def worth(self, model: str, tokens: int, life: float) -> Decimal | None:
        return Decimal(tokens)

    def rewriting(self, message: Any, tokens: int, life: float, *, read: bool) -> Decimal | None:
        return Decimal(tokens)

    def cost(self, message: Any) -> Decimal | None:
        return Decimal(0)

    def note(self, use: PromptUse) -> None:
        self.uses.append(use)


def block(name: str, *, marked: bool = True) -> dict[str, Any]:
    return {"type": "text", "text": f"{name} ".ljust(4 * TOKENS, "x"), **(MARK if marked else {})}


def body(path: str, **changes: Any) -> dict[str, Any]:
    """A block for each letter, with a breakpoint after each: the first two are the system prompt's."""
    blocks = [block(path[: at + 1]) for at in range(len(path))]
    messages = [{"role": "user", "content": [*blocks[2:], {"type": "text", "text": "?"}]}]
    return {"model": MODEL, "max_tokens": 10, "system": blocks[:2], "messages": messages, **changes}


def prompt(path: str, books: Books | None = None, terms: Any = None, manner: Manner | None = None) -> Prompt:
    policy = Policy("p", prompt_cache={"settle": "adaptive", "max_wait": 3600} if terms is None else terms)
    return Prompt(body(path), lambda: ["url", "workspace"], policy, books or Books(), manner or Manner(set()))
