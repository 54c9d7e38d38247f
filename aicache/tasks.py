"""Celery's tasks: the only module that imports it. ``celery.BEAT_SCHEDULE`` says when those without arguments are due.

All of them may run twice, or at the same time: that does no harm. While Redis is away nothing fails, and the next run
does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from celery import shared_task
from celery.signals import worker_process_shutdown
from django.db import InterfaceError, OperationalError

from aicache import upkeep
from aicache.core.operations import Unavailable
from aicache.durable import get_writer
from aicache.errors import ArgumentError
from aicache.freshness import drain
from aicache.ledger import counting
from aicache.ledger.compaction import compact
from aicache.purge import Purge, carry_out_and_count, whose

COMPACT_AFTER: Final = 30
"""Days for which invalidations that were applied are kept, to be looked at in the admin."""

RECLAIM_FOR: Final = 45.0
"""Seconds that one run frees memory at most; the next one goes on."""

MOST_DAYS: Final = 100_000


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _write_what_is_left(**_: Any) -> None:
    """A worker's children end in a way of their own, without ``atexit``."""
    get_writer().flush()
    counting.close()


def _unless_away(work: Callable[[], int]) -> int:
    try:
        return work()
    except Unavailable:
        return 0


@shared_task(  # type: ignore[untyped-decorator]
    name="aicache.tasks.purge_tag",
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(OperationalError, InterfaceError),
    max_retries=10,
    retry_backoff=True,
)
def purge_tag(tags: str | list[str], tenant: str | int | None = None, all_tenants: bool = False) -> int | None:
    """Makes every answer die that hangs on these tags, of a tenant or, with ``all_tenants``, of everybody's.

    ``tags``: a name, or a list of names. → how many hung on them, one that hung on two counted twice, about so many
    from 500 on; None while Redis cannot count them. The purge is written all the same, and applied when Redis is back.
    Raises ArgumentError for an argument of no use, and where nobody says whose are meant.
    """
    owner = whose(tenant, all_tenants=all_tenants)
    names = [tags] if isinstance(tags, str) else tags
    if not isinstance(names, list | tuple | set | frozenset):
        raise ArgumentError(f"tags is {tags!r}; accepted: a name, or a list of names")
    _, counts = carry_out_and_count(Purge.of(names, owner), cause="task purge_tag")
    return None if None in counts else sum(count or 0 for count in counts)


@shared_task(name="aicache.tasks.drain_invalidations", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def drain_invalidations() -> int:
    """Applies the invalidations that are pending, in every database. → how many."""
    return _unless_away(drain.drain)


@shared_task(name="aicache.tasks.reclaim", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def reclaim() -> int:
    """Frees the memory of dead answers, in batches. → how many."""
    return _unless_away(lambda: upkeep.reclaim(RECLAIM_FOR)[0])


@shared_task(name="aicache.tasks.index_tags", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def index_tags() -> int:
    """Brings the list of tags that the admin shows in step with those in use. → how many those are."""
    return _unless_away(upkeep.index_tags)


@shared_task(name="aicache.tasks.compact_invalidations", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def compact_invalidations(days: float = COMPACT_AFTER) -> Any:
    """Deletes invalidations that were applied and are older than so many days; how many there were is remembered.

    Raises ArgumentError.
    """
    return drain.compact(_age(days))


@shared_task(name="aicache.tasks.prune", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def prune() -> int:
    """Deletes expired copies of answers and expired idempotency keys, and rolls up old counts. → how many rows."""
    return sum(upkeep.prune())


@shared_task(name="aicache.tasks.roll_up", acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
def roll_up() -> int:
    """Minutes that were counted become hours, and hours days; see ``ledger.compaction``. → how many rows."""
    return compact()


def _age(days: Any) -> timedelta:
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= MOST_DAYS:
        raise ArgumentError(f"days is {days!r}; accepted: a number, from 0 to {MOST_DAYS:,}")
    return timedelta(days=days)
