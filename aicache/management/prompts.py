"""What ``cache_stats`` says of the provider's prompt cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from aicache.ledger.stats import NOTHING_PROMPTED, PromptStats, Stats


def cells(found: Stats) -> tuple[list[list[str]], list[list[str]]]:
    """→ the lines of the head, and one for each tenant and model."""
    head = [
        ["", "", "calls", "calls", "redundant", "dollars", "calls", "seconds", "dollars", "dollars"],
        ["tenant", "model", "read", "wrote", "writes", "lost", "waited", "waited", "saved", "net"],
    ]
    return head, [
        _row(tenant, model, figures) for tenant, models in found.prompts.items() for model, figures in models.items()
    ]


def _row(tenant: str, model: str, figures: PromptStats) -> list[str]:
    return [
        tenant,
        model,
        *(f"{figures[name]:,}" for name in ("reads", "writes", "redundant_writes")),
        _dollars(figures.redundant_usd),
        f"{figures['waits']:,}",
        f"{figures.waited:,.1f}",
        _dollars(figures.gate_usd),
        _dollars(figures.net_usd),
    ]


def notes(found: Stats) -> Iterator[tuple[str, str]]:
    total = NOTHING_PROMPTED
    for models in found.prompts.values():
        total = sum(models.values(), total)
    yield "redundant", "calls that paid for writing a prefix of the prompt that lived, and could have been read"
    yield "lost", "what these writes cost beyond reading"
    yield "saved", "what waiting at the gate has saved, less what that cost; net: less what was lost all the same"
    if total["unpriced"]:
        yield (
            "unpriced",
            f"of so many calls it is not known what they lost or saved, which counts as nothing: {total['unpriced']:,}",
        )
    if total.missed:
        yield "misses", ", ".join(f"{reason} {number:,}" for reason, number in total.missed.items())


def as_json(models: Mapping[str, PromptStats]) -> dict[str, Any]:
    return {
        model: {
            "reads": figures["reads"],
            "writes": figures["writes"],
            "redundant_writes": figures["redundant_writes"],
            "read_tokens": figures["read_tokens"],
            "written_tokens": figures["written_tokens"],
            "redundant_tokens": figures["redundant_tokens"],
            "redundant_usd": decimal(figures.redundant_usd),
            "waits": figures["waits"],
            "waited_seconds": figures.waited,
            "saved_usd": decimal(figures.gate_usd),
            "net_usd": decimal(figures.net_usd),
            "unpriced": figures["unpriced"],
            "cache_miss_reasons": figures.missed,
        }
        for model, figures in models.items()
    }


def decimal(amount: Decimal) -> str:
    """Never with an exponent."""
    return f"{amount.normalize():f}"


def _dollars(amount: Decimal) -> str:
    return f"-${-amount:,.4f}" if amount < 0 else f"${amount:,.4f}"
