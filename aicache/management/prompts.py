"""What ``cache_stats`` says of the provider's prompt cache."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from aicache.ledger.stats import NOTHING, Figures, Stats


def cells(found: Stats) -> tuple[list[list[str]], list[list[str]]]:
    """→ the lines of the head, and one for each tenant and model."""
    head = [
        ["", "", "calls", "calls", "redundant", "dollars", "calls", "seconds", "dollars", "dollars"],
        ["tenant", "model", "read", "wrote", "writes", "lost", "waited", "waited", "saved", "net"],
    ]
    return head, [
        _row(tenant, model, figures) for tenant, models in found.prompts.items() for model, figures in models.items()
    ]


def _row(tenant: str, model: str, figures: Figures) -> list[str]:
    return [
        tenant,
        model,
        *(f"{figures[name]:,}" for name in ("reads", "writes", "redundant_writes")),
        _dollars(figures.usd("redundant")),
        f"{figures['gate_waits']:,}",
        f"{figures['gate_waited_ms'] / 1000:,.1f}",
        _dollars(figures.usd("gate")),
        _dollars(figures.prompt_net_usd),
    ]


def notes(found: Stats) -> Iterator[tuple[str, str]]:
    total = NOTHING
    for models in found.prompts.values():
        total = sum(models.values(), total)
    yield "redundant", "calls that paid for writing a prefix of the prompt that lived, and could have been read"
    yield "lost", "what these writes cost beyond reading"
    yield "saved", "what waiting at the gate has saved, less what that cost; net: less what was lost all the same"
    if number := total["unpriced_prompts"]:
        yield (
            "unpriced",
            f"of so many calls it is not known what they lost or saved, which counts as nothing: {number:,}",
        )
    if total.missed:
        yield "misses", ", ".join(f"{reason} {number:,}" for reason, number in total.missed.items())


def _dollars(amount: Decimal) -> str:
    return f"-${-amount:,.4f}" if amount < 0 else f"${amount:,.4f}"
