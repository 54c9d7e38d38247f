"""What is done now and then, beside the drain: memory of dead answers, the list of tags, and what has expired."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

from django.db.models import Exists, OuterRef
from django.utils import timezone

from aicache.cache import get_cache
from aicache.conf import get_settings, site
from aicache.core.tags import EVERYBODY, Tag
from aicache.durable import durable_of, retention
from aicache.freshness.databases import has_table, is_migrated
from aicache.freshness.outbox import LONGEST_NAME, LONGEST_TEXT, storable
from aicache.ledger.compaction import compact
from aicache.models import Invalidation, InvalidationTag

BATCH: Final = 500
REMEMBERED: Final = timedelta(days=30)
"""For how long a tag that is not in use, and was never invalidated, is listed."""


def reclaim(seconds: float = float("inf")) -> tuple[int, bool]:
    """Frees the memory of dead answers in batches, for about so long. → how many, and whether that was all.

    Raises Unavailable.
    """
    store = get_cache().store
    deadline = time.monotonic() + seconds
    freed = 0
    while True:
        batch, done = store.reclaim(BATCH)
        freed += batch
        if done:
            return freed, True
        if time.monotonic() >= deadline:
            return freed, False


class Pruned(NamedTuple):
    """How many rows of each."""

    copies: int
    keys: int
    counts: int


def prune(expired_for: timedelta = retention.EXPIRED_FOR) -> Pruned:
    """Deletes copies of answers that expired longer ago, and expired idempotency keys; rolls up counts.

    None of what there is no database for. Raises what it does.
    """
    settings = get_settings()
    if durable_of(settings, site(settings)) is None:
        return Pruned(0, 0, compact())
    copies, keys = retention.prune(settings.database, expired_for)
    return Pruned(copies, keys, compact())


def index_tags() -> int:
    """Brings the database's list of tags in step with those in use. → how many are in use; 0 where there is no list.

    Raises Unavailable, and what the database does.
    """
    database = get_settings().database
    if not (has_table(database) and is_migrated(database)):
        return 0
    rows = InvalidationTag.objects.using(database)
    began = timezone.now()
    indexed = 0
    for batch in _batches(get_cache().store.names()):
        found = {tag.digest: _row(tag, label, began) for tag, label in batch}
        _name_owners(found, database)
        known = dict(rows.filter(digest__in=found).values_list("digest", "tenant"))
        rows.filter(digest__in=known).update(seen_at=began)
        for digest in (digest for digest, tenant in known.items() if found[digest].tenant != tenant == ""):
            rows.filter(digest=digest).update(tenant=found[digest].tenant)
        # Another may come first with the same; and not every backend can update where it cannot create.
        rows.bulk_create((row for digest, row in found.items() if digest not in known), ignore_conflicts=True)
        indexed += len(found)
    died = Invalidation.objects.using(database).filter(digest=OuterRef("digest"))
    rows.filter(~Exists(died), seen_at__lt=began - REMEMBERED, compacted=0)._raw_delete(database)
    return indexed


def _name_owners(found: dict[str, InvalidationTag], database: str) -> None:
    """Redis may know tenants by their digests only; where a tag has died before, it is known whose it was."""
    nameless = [digest for digest, row in found.items() if not (row.everybody or row.tenant)]
    died = Invalidation.objects.using(database).filter(digest__in=nameless)
    for digest, tenant in died.values_list("digest", "tenant").order_by().distinct():
        found[digest].tenant = tenant


def _row(tag: Tag, label: str, now: Any) -> InvalidationTag:
    return InvalidationTag(
        digest=tag.digest,
        tag=storable(tag.name, LONGEST_NAME),
        tenant=storable(label, LONGEST_TEXT),
        everybody=tag.tenant == EVERYBODY,
        seen_at=now,
    )


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
