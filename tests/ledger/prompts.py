"""What calls may do at the provider's prompt cache."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aicache.core.usage import PromptUse
from aicache.ledger.place import Place

LARGE, SMALL = "claude-opus-5", "claude-haiku-4-5"
CENT = Decimal("0.01")


def at(model: str = LARGE, tenant: Any = "acme") -> Place:
    return Place(tenant, model, "chat")


def read(tokens: int = 4000, **more: Any) -> PromptUse:
    return PromptUse(LARGE, "open", read=tokens, **more)


def wrote(tokens: int = 4000, **more: Any) -> PromptUse:
    return PromptUse(LARGE, "lead", written=tokens, **more)


def again(usd: Decimal | None = CENT) -> PromptUse:
    """It wrote 4000 tokens, 3000 of them of a prefix that lived."""
    return wrote(redundant=3000, redundant_usd=usd)


def waited(seconds: float, usd: Decimal | None = CENT) -> PromptUse:
    return PromptUse(LARGE, "wait", seconds, read=4000, saved_usd=usd)
