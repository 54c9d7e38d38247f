"""The names of all figures, in the order in which they are kept. What each is made of stands in docs/counts.md."""

from __future__ import annotations

from typing import Final, get_args

from aicache.core.records import Status

STATUSES: Final[tuple[str, ...]] = get_args(Status)
SERVED: Final = ("hit", "stale", "semantic", "coalesced")
"""Statuses of calls that were answered without one of their own."""

# Upper bounds of the bins of a histogram, in seconds; a last one takes what is above.
HIT_TIMES: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
UPSTREAM_TIMES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
HIT_BINS: Final = tuple(f"hit_{number}" for number in range(len(HIT_TIMES) + 1))
UPSTREAM_BINS: Final = tuple(f"upstream_{number}" for number in range(len(UPSTREAM_TIMES) + 1))

# How long after it had expired an answer was asked for again, at most, in seconds. What came later is in none.
LATE: Final = {"late_1m": 60.0, "late_10m": 600.0, "late_1h": 3600.0, "late_6h": 6 * 3600.0, "late_1d": 86400.0}

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

PROMPTS: Final = (
    "reads",
    "writes",
    "redundant_writes",
    "read_tokens",
    "written_tokens",
    "redundant_tokens",
    "gate_waits",
    "gate_waited_ms",
    "unpriced_prompts",
    *MISSED.values(),
)
"""Of those, what calls did at the provider's prompt cache."""
FIGURES: Final = (
    *STATUSES,
    "upstream_calls",
    "upstream_tokens",
    "saved_tokens",
    "unpriced",
    "unpriced_spent",
    "stale_blocked",
    "checked",
    "wrong",
    "waits",
    "waited_ms",
    "expired",
    *LATE,
    *PROMPTS,
    "hit_us",
    *HIT_BINS,
    "upstream_ms",
    *UPSTREAM_BINS,
)
AT: Final = {name: at for at, name in enumerate(FIGURES)}
MONEY: Final = ("spent", "saved", "premium", "expired", "redundant", "gate")
USD: Final = {name: at for at, name in enumerate(MONEY)}
NANO: Final = tuple(f"{name}_nano_usd" for name in MONEY)
"""Money as it is kept, in billionths of a dollar."""
SUMMED: Final = (*FIGURES, *NANO)
