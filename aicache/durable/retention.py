"""How long what is kept in the database stays there: what has expired is of no use, and goes in batches."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db.models import Exists, OuterRef
from django.utils import timezone

from aicache.sqlite import write

BATCH: Final = 500
"""Deleted at once: a moment in which nobody waits for the table."""

EXPIRED_FOR: Final = timedelta(days=1)
"""An answer that has expired tells for so long why its question was asked again."""

DAY: Final = 86400
# When answers were served: for so long by the hour, by the day, and so many rows in all.
HOURS_KEPT: Final = 3 * DAY
DAYS_KEPT: Final = 90 * DAY
MOST_HITS: Final = 300_000


def prune(using: str, expired_for: timedelta = EXPIRED_FOR) -> tuple[int, int]:
    """Deletes copies of answers that expired longer ago, and idempotency keys that have. → how many of each.

    Harmless beside others that do the same. Raises what the database does.
    """
    from aicache.models import CacheEntry, IdempotencyKey

    now = timezone.now()
    gone = _delete(CacheEntry, using, now - expired_for), _delete(IdempotencyKey, using, now)
    _prune_hits(using, int(time.time()))
    return gone


def _prune_hits(using: str, now: int) -> None:
    """Those of answers that are gone, the old, and the oldest of too many."""
    from aicache.models import CacheEntry, EntryHits

    rows = EntryHits.objects.using(using)
    there = CacheEntry.objects.using(using).filter(pk=OuterRef("entry"))
    _delete_all(rows.filter(span__lt=DAY, start__lt=now - HOURS_KEPT), using)
    _delete_all(rows.filter(start__lt=now - DAYS_KEPT), using)
    _delete_all(rows.filter(~Exists(there)), using)
    for newest in list(rows.order_by("-pk").values_list("pk", flat=True)[MOST_HITS : MOST_HITS + 1]):
        _delete_all(rows.filter(pk__lte=newest), using)


def _delete_all(rows: Any, using: str) -> None:
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        write(using, partial(rows.model.objects.using(using).filter(pk__in=batch)._raw_delete, using))
        last = batch[-1]


def _delete(model: Any, using: str, before: Any) -> int:
    rows = model.objects.using(using)
    deleted = 0
    while True:
        batch = list(rows.filter(expires_at__lte=before).order_by("expires_at").values_list("pk", flat=True)[:BATCH])
        if not batch:
            return deleted
        # Asked again: a copy may have been written anew meanwhile.
        deleted += write(using, partial(rows.filter(pk__in=batch, expires_at__lte=before)._raw_delete, using))
