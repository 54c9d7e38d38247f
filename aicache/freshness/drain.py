"""Applies what was committed and not stamped, and forgets what was applied long ago."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db import DatabaseError, connections, transaction
from django.db.models import Case, Count, F, Min, QuerySet, When
from django.utils import timezone

from aicache.core.operations import Unavailable
from aicache.core.tags import EVERYBODY, Tag
from aicache.freshness import databases, outbox, stamps, transactions
from aicache.tenants import tenant_digest

logger = logging.getLogger("aicache")

_passed_over: Final[set[str]] = set()

BATCH: Final = 500
NEWEST: Final = 1000
"""So many invalidations of a tag stand at least, for as long as they are kept: they are what the admin shows."""


@dataclass(frozen=True, slots=True)
class Recalled(Tag):
    """A tag read from its row, where its name, or its tenant's, was cut to fit."""

    known: str

    @property
    def digest(self) -> str:
        return self.known


def drain(using: str | None = None) -> int:
    """Draws the stamps of what is pending, in each database or in one; returns how many invalidations that were.

    Raises Unavailable where the store cannot, and what the databases do; what was done by then is done, and of several
    databases all is done that can be. One that nobody is known to write to is not waited for, and passed over with one
    warning. Harmless beside savers and other drains: a stamp may be drawn twice.
    """
    if using is None:
        return _in_each(drain)
    from aicache.models import Invalidation

    alias, done, last = using, 0, 0
    if databases.may_hold(alias):
        while True:
            waiting = Invalidation.objects.using(alias).filter(applied_at=None, id__gt=last).order_by("id")
            rows = list(waiting[:BATCH])
            if not rows:
                break
            last = rows[-1].id
            stamps.apply(list({row.digest: _tag(row) for row in rows}.values()), using=alias, cause="drain")
            _mark(rows, alias)
            done += len(rows)
    return done


def _in_each(act: Callable[[str], int]) -> int:
    """Wherever it can be done; no database waits for another. Raises at the end, for one that is written to."""
    done = 0
    trouble: Exception | None = None
    for alias in databases.candidates():
        try:
            done += act(alias)
        except Unavailable:  # nor will it be there for the next one
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            if alias in databases.expected():
                trouble = trouble or error
            elif alias not in _passed_over:
                logger.warning("what is pending in the database %r is not known: %s", alias, error)
                _passed_over.add(alias)
        else:
            _passed_over.discard(alias)
    if trouble is not None:
        raise trouble
    return done


def _mark(rows: list[Any], alias: str) -> None:
    """They are stamped, whether this can be written or not: into a replica, for one, it cannot."""
    try:
        outbox.mark((row.id for row in rows), alias)
    except DatabaseError as error:
        logger.warning("%s invalidations in %r are applied, and not marked so: %s", len(rows), alias, error)


def _tag(row: Any) -> Tag:
    tag = Tag(row.tag, EVERYBODY if row.everybody else tenant_digest(row.tenant))
    return tag if tag.digest == row.digest else Recalled(tag.name, tag.tenant, row.digest)


def pending(using: str | None = None) -> int:
    """How many are committed and not applied, in each database or in one. Raises what the databases do."""
    from aicache.models import Invalidation

    waiting = (Invalidation.objects.using(alias).filter(applied_at=None) for alias in _chosen(using))
    return sum(some.count() for some in waiting)


def oldest(using: str | None = None) -> datetime | None:
    """When the first of those that are pending was made. Raises what the databases do."""
    from aicache.models import Invalidation

    waiting = (Invalidation.objects.using(alias).filter(applied_at=None) for alias in _chosen(using))
    made = (some.aggregate(oldest=Min("made_at"))["oldest"] for some in waiting)
    return min(filter(None, made), default=None)


def compact(older_than: timedelta, using: str | None = None) -> int:
    """Deletes what was applied longer ago than that, and keeps the count. Returns how many rows that were.

    Of a tag that has more than NEWEST, the older ones go at once: each strict call counts those that stand. No
    generation changes by it, at no moment. Raises what the databases do, as ``drain`` does.
    """
    return _in_each(partial(_compact, older_than)) if using is None else _compact(older_than, using)


def _compact(older_than: timedelta, alias: str) -> int:
    from aicache.models import Invalidation

    if not databases.may_hold(alias):
        return 0
    standing = Invalidation.objects.using(alias)
    gone = _fold(standing.filter(applied_at__lt=timezone.now() - older_than))
    counted = standing.values("digest").order_by().annotate(number=Count("*"))
    for digest in list(counted.filter(number__gt=NEWEST).values_list("digest", flat=True)):
        those = standing.filter(digest=digest)
        for newest in those.order_by("-id").values_list("id", flat=True)[NEWEST - 1 : NEWEST]:
            gone += _fold(those.filter(id__lt=newest, applied_at__isnull=False))
    return gone


def _fold(those: QuerySet[Any]) -> int:
    gone = last = 0
    # From where the last batch ended: PostgreSQL would pass by all that has just been deleted, for each batch.
    while batch := _fold_batch(those.filter(id__gt=last)):
        last = batch[-1]
        gone += len(batch)
    return gone


def _fold_batch(those: QuerySet[Any]) -> list[int]:
    """→ the ids that are gone."""
    from aicache.models import Invalidation, InvalidationTag

    alias = those.db
    with transaction.atomic(using=alias):
        transactions.lock(Invalidation, alias)
        # Locked: another one that is at it must not count the same rows.
        features = connections[alias].features
        locked = those.order_by("id").select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        rows = list(locked[:BATCH])
        if not rows:
            return []
        tags = {row.digest: row for row in rows}
        InvalidationTag.objects.using(alias).bulk_create(
            (
                InvalidationTag(
                    digest=digest, tag=row.tag, tenant=row.tenant, everybody=row.everybody, seen_at=row.made_at
                )
                for digest, row in sorted(tags.items())
            ),
            ignore_conflicts=True,
        )
        counts = Counter(row.digest for row in rows)
        more = Case(*(When(digest=digest, then=number) for digest, number in counts.items()), default=0)
        kept = InvalidationTag.objects.using(alias).filter(digest__in=counts).update(compacted=F("compacted") + more)
        ids = [row.id for row in rows]
        deleted: int = Invalidation.objects.using(alias).filter(id__in=ids)._raw_delete(alias)
        if (kept, deleted) != (len(counts), len(rows)):  # on a database without locks for rows
            transaction.set_rollback(True, using=alias)
            return []
        return ids


def _chosen(using: str | None) -> list[str]:
    return databases.everywhere() if using is None else [using]
