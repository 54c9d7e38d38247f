"""What the prompt-cache gate asks of the ledger, for one call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from aicache.core.usage import PromptUse
from aicache.ledger import counting, prices
from aicache.ledger.place import Place


class Books:
    """Nothing in here raises."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def worth(self, model: str, tokens: int, life: float) -> Decimal | None:
        return prices.worth(model, tokens, life)

    def rewriting(self, message: Any, tokens: int, life: float, *, read: bool) -> Decimal | None:
        return prices.rewriting(message, tokens, life, read=read)

    def cost(self, message: Any) -> Decimal | None:
        return prices.price(message).usd

    def note(self, use: PromptUse) -> None:
        counting.prompted(self._place, use)
