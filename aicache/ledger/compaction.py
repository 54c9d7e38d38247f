"""Minutes that are long past become hours, and of no process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from aicache.conf import get_settings
from aicache.ledger import rows
from aicache.ledger.stats import HOUR

# No process writes minutes that are so old: see ``counts.APART_FOR``.
KEPT: Final = timedelta(hours=48)
BATCH: Final = 500


def compact() -> int:
    """Rolls up what is older than KEPT, and forgets processes that were not seen for as long and lost nothing.

    → how many rows that were. In batches, each of which is whole or undone; no figure changes by it, at no moment, and
    whoever comes while another is at it leaves it to that one. Raises what the database does.
    """
    using = get_settings().database
    try:
        rows.find_place(using)
    except rows.NoPlace:
        return 0
    gone = 0
    before = int(time.time() - KEPT.total_seconds()) // HOUR * HOUR
    for table in (rows.CALLS, rows.PROMPTS):
        while batch := _roll_up(table, before, using):
            gone += batch
    return gone + _forget(using)


def _roll_up(table: rows.Table, before: int, using: str) -> int:
    counts = table.rows.objects.using(using)
    minutes: list[Any] = list(
        counts.filter(minute__lt=before).exclude(process="").order_by("minute", *table.whose)[:BATCH].values()
    )
    if not minutes:
        return 0
    places = {_place(found, table) for found in minutes}
    of_hours = Q(process="", minute__in={hour for hour, *_ in places}, owner__in={owner for _, owner, *_ in places})
    several: list[Any] = list(counts.filter(of_hours).values())  # an hour of the one, a tenant of the other, among them
    hours = [found for found in several if _place(found, table) in places]
    whole = [table.rows(process="", **fields) for fields in _summed([*minutes, *hours], table)]
    replaced = [found["id"] for found in (*minutes, *hours)]
    try:
        with transaction.atomic(using=using):
            # The first statement is a write: on SQLite a transaction that has read by then may not be let through.
            deleted: int = counts.filter(id__in=replaced)._raw_delete(using)
            if deleted != len(replaced):
                raise IntegrityError
            counts.bulk_create(whole)
    except IntegrityError:  # another one was at it
        return 0
    return len(minutes)


def _summed(found: Iterable[dict[str, Any]], table: rows.Table) -> list[dict[str, Any]]:
    whole: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in found:
        place = _place(one, table)
        named = {"minute": place[0], **{name: one[name] for name in (*table.whose, *rows.WHOSE)}}
        fields = whole.setdefault(place, {**named, **dict.fromkeys(table.summed, 0)})
        fields.update({name: fields[name] + one[name] for name in table.summed})
    return list(whole.values())


def _place(found: dict[str, Any], table: rows.Table) -> tuple[Any, ...]:
    """Of the hour that it is rolled up to."""
    return table.place({**found, "minute": found["minute"] // HOUR * HOUR})


def _forget(using: str) -> int:
    """What a process has lost stands, in its row."""
    from aicache.models import CountingProcess

    idle = CountingProcess.objects.using(using).filter(announced__lte=F("flushed"), seen_at__lt=Now() - KEPT)
    gone: int = idle._raw_delete(using)
    return gone
