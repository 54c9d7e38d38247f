"""How long what is kept in the database stays there: what has expired is of no use, and goes in batches."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.utils import timezone

from aicache.sqlite import write

BATCH: Final = 500
"""Deleted at once: a moment in which nobody waits for the table."""

EXPIRED_FOR: Final = timedelta(days=1)
"""An answer that has expired tells for so long why its question was asked again."""


def prune(using: str, expired_for: timedelta = EXPIRED_FOR) -> tuple[int, int]:
    """Deletes copies of answers that expired longer ago, and idempotency keys that have. → how many of each.

    Harmless beside others that do the same. Raises what the database does.
    """
    from aicache.models import CacheEntry, IdempotencyKey

    now = timezone.now()
    return _delete(CacheEntry, using, now - expired_for), _delete(IdempotencyKey, using, now)


def _delete(model: Any, using: str, before: Any) -> int:
    rows = model.objects.using(using)
    deleted = 0
    while True:
        batch = list(rows.filter(expires_at__lte=before).order_by("expires_at").values_list("pk", flat=True)[:BATCH])
        if not batch:
            return deleted
        # Asked again: a copy may have been written anew meanwhile.
        deleted += write(using, partial(rows.filter(pk__in=batch, expires_at__lte=before)._raw_delete, using))
