"""What is long past is kept coarser: minutes become hours, hours days, and days at last one sum. No figure changes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, connections, transaction
from django.db.models import Count, Exists, F, OuterRef, Q
from django.db.models.functions import Now

from aicache.conf import get_settings
from aicache.ledger import rows
from aicache.ledger.counts import MINUTE
from aicache.ledger.place import ALL, OF_ALL, OF_OWNER, OF_PLACE, OTHERS
from aicache.ledger.words import REST

HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
EVER: Final = 0
"""The span of the one sum of what came before."""
# Minutes are kept for so long, hours for the next, and the hours of all owners together for the last.
MINUTES_KEPT: Final = HOUR
HOURS_KEPT: Final = 2 * DAY
TOTAL_HOURS_KEPT: Final = 15 * DAY

# A process that was not seen for so long is taken to be gone. One that merely slept is told so as it writes again.
GONE_AFTER: Final = timedelta(hours=1)
FORGOTTEN_AFTER: Final = timedelta(hours=48)
BATCH: Final = 500
# What is not told apart any more: whose, and by which model and policy.
ELSEWHERE: Final = {"owner": OTHERS, "model": "", "policy": "", "tenant": "", "everybody": False}
# What a row adds to besides.
TOTALS: Final[tuple[dict[str, Any], ...]] = (
    {"total": OF_OWNER, "model": "", "policy": ""},
    {"total": OF_ALL, "owner": ALL, "tenant": "", "everybody": False},
)
REST_OF_TOTAL: Final = {"model": REST, "policy": REST}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Rows of one ``span`` become some of another when they are older than ``kept`` in seconds, the sums of all owners
    than ``total_kept``. ``into``: None is nothing. ``of_processes``: the rows of each process, which become nobody's.
    """

    span: int
    into: int | None
    kept: int
    total_kept: int
    of_processes: bool = False

    def due(self, now: float) -> Q:
        own, total = Q(start__lt=self._before(now, self.kept)), Q(start__lt=self._before(now, self.total_kept))
        old = (own & ~Q(owner=ALL)) | (total & Q(owner=ALL))
        return Q(span=self.span) & old & (~Q(process="") if self.of_processes else Q(process=""))

    def _before(self, now: float, kept: int) -> int:
        """Whole hours, or days, at a time."""
        step = self.into or self.span
        return int(now - kept) // step * step

    def moved(self, row: Row) -> Row:
        """What changes in a row."""
        if not self.into:
            # A model's share of the whole is not to go down: it is a counter of others'.
            return {"span": EVER, "start": 0, **({"policy": ""} if row["owner"] == ALL else ELSEWHERE)}
        return {"span": self.into, "start": row["start"] // self.into * self.into}


def steps(table: rows.Table) -> tuple[Step, ...]:
    days = get_settings().metrics_days * DAY
    to_days = Step(HOUR, DAY, HOURS_KEPT, TOTAL_HOURS_KEPT)
    if table is rows.HOTSPOTS:
        return Step(HOUR, HOUR, HOUR, HOUR, of_processes=True), to_days, Step(DAY, None, days, days)
    return Step(MINUTE, HOUR, MINUTES_KEPT, MINUTES_KEPT, of_processes=True), to_days, Step(DAY, EVER, days, days)


def compact() -> int:
    """Rolls up what is old enough, and forgets processes that were not seen for long and lost nothing.

    → how many rows that were. In batches, each of which is whole or undone; no figure changes by it, at no moment, and
    whoever comes while another is at it leaves it to that one. Raises what the database does.
    """
    using = get_settings().database
    try:
        rows.find_place(using)
    except rows.NoPlace:
        return 0
    _take_leave(using)
    gone = 0
    for table in rows.TABLES:
        for step in steps(table):
            before = gone
            while batch := _roll_up(table, step, using):
                gone += batch
            if step.into is not None and gone > before:
                gone += _trim(table, step.into, using)
    return gone + _forget(using)


def _roll_up(table: rows.Table, step: Step, using: str) -> int:
    due = table.rows.objects.using(using).filter(step.due(time.time()))
    if step.of_processes:
        due = due.exclude(_may_change())
    if step.into is None:
        return _delete(due.values_list("id", flat=True)[:BATCH], table, using)
    found: list[Row] = list(due.order_by("start", "owner")[:BATCH].values())
    moved = [{**row, **step.moved(row)} for row in found]
    if step.of_processes and table.has_totals:
        moved += [{**row, **total} for total in TOTALS for row in moved]
    return _replace(found, moved, table, using)


def _may_change() -> Exists:
    from aicache.models import CountingProcess

    end = OuterRef("start") + OuterRef("span")
    return Exists(CountingProcess.objects.filter(id=OuterRef("process"), unsettled__lt=end))


def _trim(table: rows.Table, span: int, using: str) -> int:
    """What is one of too many in an hour or a day is not told apart any more."""
    kept = table.rows.objects.using(using).filter(process="", span=span).order_by()
    if not table.has_totals:
        return _trim_of(table, kept, ELSEWHERE, using)
    gone = _trim_of(table, kept.filter(total=OF_ALL).exclude(**REST_OF_TOTAL), REST_OF_TOTAL, using)
    for total in (OF_PLACE, OF_OWNER):
        gone += _trim_of(table, kept.filter(total=total).exclude(owner=OTHERS), ELSEWHERE, using)
    return gone


def _trim_of(table: rows.Table, kept: Any, rest: Row, using: str) -> int:
    crowded = kept.values("start").annotate(number=Count("id")).filter(number__gt=table.most)
    score = sum((F(name) for name in table.rank[1:]), F(table.rank[0]))
    gone = 0
    for start in list(crowded.values_list("start", flat=True)):
        ranked = kept.filter(start=start).order_by(score.desc(), "id")
        while few := list(ranked[table.most : table.most + BATCH].values()):
            if table.has_totals:
                done = _replace(few, [{**row, **rest} for row in few], table, using)
            else:
                done = _delete([row["id"] for row in few], table, using)
            gone += done
            if not done:
                break
    return gone


def _take_leave(using: str) -> None:
    """Of those that are gone: from now on they change no row of what they have counted."""
    from aicache.models import CountingProcess

    silent = CountingProcess.objects.using(using).filter(unsettled__lt=rows.GONE, seen_at__lt=Now() - GONE_AFTER)
    silent.update(unsettled=rows.GONE)


def _replace(found: list[Row], moved: list[Row], table: rows.Table, using: str) -> int:
    """Rows by what they become: added to what stands there. → how many; 0: there were none, or another was at it."""
    if not found:
        return 0
    places = {table.place(row) for row in moved}
    counts = table.rows.objects.using(using)
    near = Q(process="", **{f"{name}__in": {row[name] for row in moved} for name in ("span", "start", "owner")})
    there = [row for row in counts.filter(near).values() if table.place(row) in places]
    # In one order: two that add what is not there yet wait for each other otherwise.
    summed = sorted(_summed([*there, *moved], table), key=table.place)
    whole = [table.rows(process="", **fields) for fields in summed]
    replaced = [row["id"] for row in (*found, *there)]
    try:
        with transaction.atomic(using=using):
            _hold(counts.filter(id__in=replaced), len(replaced))
            # There the first statement is a write: on SQLite a transaction that has read may not be let through.
            deleted: int = counts.filter(id__in=replaced)._raw_delete(using)
            if deleted != len(replaced):
                raise IntegrityError
            counts.bulk_create(whole)
    except IntegrityError:  # another one was at it
        return 0
    return len(found)


def _hold(chosen: Any, number: int) -> None:
    """Rows that are about to be replaced, without waiting for who holds one of them: he may wait for another of ours.

    Raises IntegrityError where some are not to be had.
    """
    if not connections[chosen.db].features.has_select_for_update_skip_locked:
        return
    if len(chosen.select_for_update(skip_locked=True).values_list("id")) != number:
        raise IntegrityError


def _summed(found: Iterable[Row], table: rows.Table) -> list[Row]:
    whole: dict[tuple[Any, ...], Row] = {}
    names = ("span", "start", *table.whose, *table.told)
    for one in found:
        fields = whole.setdefault(
            table.place(one), {**{name: one[name] for name in names}, **dict.fromkeys(table.summed, 0)}
        )
        fields.update({name: fields[name] + one[name] for name in table.summed})
    return list(whole.values())


def _delete(ids: Any, table: rows.Table, using: str) -> int:
    gone: int = table.rows.objects.using(using).filter(id__in=list(ids))._raw_delete(using)
    return gone


def _forget(using: str) -> int:
    """What a process has lost stands, in its row."""
    from aicache.models import CountingProcess

    idle = CountingProcess.objects.using(using).filter(announced__lte=F("flushed"), seen_at__lt=Now() - FORGOTTEN_AFTER)
    gone: int = idle._raw_delete(using)
    return gone
