"""What the database remembers: which tags died, copies of answers, idempotency keys, and what was counted."""

from __future__ import annotations

from aicache.models.durable import CacheEntry, EntryHits, IdempotencyKey
from aicache.models.freshness import Invalidation, InvalidationTag
from aicache.models.label import LONGEST_LABEL
from aicache.models.ledger import CountingProcess, Hotspot, MetricBucket

__all__ = [
    "LONGEST_LABEL",
    "CacheEntry",
    "CountingProcess",
    "EntryHits",
    "Hotspot",
    "IdempotencyKey",
    "Invalidation",
    "InvalidationTag",
    "MetricBucket",
]
