"""Figures as JSON, for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aicache.ledger.figures import STATUSES
from aicache.ledger.histogram import Histogram
from aicache.ledger.stats import Figures, Stats


def as_json(found: Stats) -> dict[str, Any]:
    return {
        **_summary(found.total),
        "tenants": {
            name: {**figures_as_json(figures), "prompt_cache": _prompts(found.prompts.get(name, {}))}
            for name, figures in found.tenants.items()
        },
        "lost": found.lost,
        "since": None if found.since is None else datetime.fromtimestamp(found.since, UTC).isoformat(),
    }


def _summary(total: Figures) -> dict[str, Any]:
    """Of all tenants, under names that dashboards of other caches use. Dollars are net, as a number."""
    rate = total.hit_rate
    return {
        "hit_rate_pct": None if rate is None else round(rate * 100, 1),
        "total_requests": total.served + total["miss"],
        "cache_hits": total.served,
        "tokens_saved": total["saved_tokens"],
        "est_cost_saved_usd": round(float(total.net_usd), 4),
    }


def figures_as_json(figures: Figures) -> dict[str, Any]:
    return {
        "calls": figures.calls,
        **{status: figures[status] for status in STATUSES},
        "upstream_calls": figures["upstream_calls"],
        "upstream_tokens": figures["upstream_tokens"],
        "spent_usd": decimal(figures.usd("spent")),
        "unpriced_spent": figures["unpriced_spent"],
        "saved_tokens": figures["saved_tokens"],
        "saved_usd": decimal(figures.saved_usd),
        "net_usd": decimal(figures.net_usd),
        "unpriced": figures["unpriced"],
        "hit_rate": figures.hit_rate,
        "stale_blocked": figures["stale_blocked"],
        "checked": figures["checked"],
        "wrong": figures["wrong"],
        "waits": figures["waits"],
        "waited_seconds": figures["waited_ms"] / 1000,
        "hit_seconds": _times(Histogram.of_hits(figures.numbers)),
        "upstream_seconds": _times(Histogram.of_upstream(figures.numbers)),
    }


def decimal(amount: Decimal) -> str:
    """Never with an exponent."""
    return f"{amount.normalize():f}"


def _times(times: Histogram) -> dict[str, Any]:
    return {"number": times.number, "p50": times.quantile(0.5), "p95": times.quantile(0.95)}


def _prompts(models: Mapping[str, Figures]) -> dict[str, Any]:
    return {
        model: {
            "reads": figures["reads"],
            "writes": figures["writes"],
            "redundant_writes": figures["redundant_writes"],
            "read_tokens": figures["read_tokens"],
            "written_tokens": figures["written_tokens"],
            "redundant_tokens": figures["redundant_tokens"],
            "redundant_usd": decimal(figures.usd("redundant")),
            "waits": figures["gate_waits"],
            "waited_seconds": figures["gate_waited_ms"] / 1000,
            "saved_usd": decimal(figures.usd("gate")),
            "net_usd": decimal(figures.prompt_net_usd),
            "unpriced": figures["unpriced_prompts"],
            "cache_miss_reasons": figures.missed,
        }
        for model, figures in models.items()
    }
