"""What calls did at the provider's prompt cache, as plain numbers: for each model."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from aicache.core.usage import PromptUse

# What the provider says of why it found no more of a prefix, where it is asked: its ``cache_miss_reason``.
REASONS: Final = (
    "model_changed",
    "system_changed",
    "tools_changed",
    "messages_changed",
    "previous_message_not_found",
    "unavailable",
)
OTHER: Final = "other"
MISSED: Final = {reason: f"missed_{reason}" for reason in (*REASONS, OTHER)}

PROMPT_FIGURES: Final = (
    "reads",
    "writes",
    "redundant_writes",
    "read_tokens",
    "written_tokens",
    "redundant_tokens",
    "waits",
    "waited_ms",
    "unpriced",
    *MISSED.values(),
)
PROMPT_MONEY: Final = ("redundant_nano_usd", "gate_nano_usd")


class PromptFigures:
    """``redundant_usd``: what was paid for writing what lived. ``gate_usd``: what waiting has saved."""

    __slots__ = ("figures", "gate_usd", "redundant_usd")

    def __init__(self) -> None:
        self.figures = dict.fromkeys(PROMPT_FIGURES, 0)
        self.redundant_usd = self.gate_usd = Decimal(0)

    def add(self, use: PromptUse) -> None:
        figures = self.figures
        figures["reads"] += use.read > 0
        figures["writes"] += use.written > 0
        figures["redundant_writes"] += use.redundant > 0
        figures["read_tokens"] += use.read
        figures["written_tokens"] += use.written
        figures["redundant_tokens"] += use.redundant
        figures["waits"] += use.waited > 0
        figures["waited_ms"] += round(use.waited * 1000)
        figures["unpriced"] += use.redundant_usd is None or use.saved_usd is None
        if use.miss_reason:
            figures[MISSED.get(use.miss_reason, MISSED[OTHER])] += 1
        self.redundant_usd += use.redundant_usd or 0
        self.gate_usd += use.saved_usd or 0

    def take(self, other: PromptFigures) -> None:
        for name, number in other.figures.items():
            self.figures[name] += number
        self.redundant_usd += other.redundant_usd
        self.gate_usd += other.gate_usd
