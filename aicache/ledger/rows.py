"""How counts are written: rows that stand for themselves, so that each may be written twice, or late."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.apps import apps
from django.db import connections, router
from django.db.models.functions import Now
from django.utils.translation import gettext, gettext_noop

from aicache.conf import get_settings
from aicache.database import in_memory, in_test
from aicache.ledger.cell import Cell
from aicache.ledger.counts import MINUTE, Counts
from aicache.ledger.figures import FIGURES, NANO, SUMMED
from aicache.ledger.hotspots import Spot
from aicache.ledger.place import OF_PLACE, whose
from aicache.ledger.process import Process
from aicache.ledger.upsert import upsert
from aicache.sqlite import insert, write

# A statement of ours ends soon, however many tenants there are: SQLite lets nobody else write meanwhile, and takes no
# more than 999 parameters.
AT_ONCE: Final = 100
GONE: Final = 2**62
"""Where a process may still change its rows that writes no more of what it had counted."""
NANO_IN_DOLLAR: Final = Decimal(10) ** 9


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one process, or of none, in one span of time. ``whose``: what their figures are told apart by; ``told``:
    what people know that by; ``summed``: those that are added up. ``rank``: by which some are the most important; more
    than ``most`` of them in one hour or day are not told apart, or not kept where they have no totals. ``has_totals``:
    they are added up for each owner and for all of them, too. ``model``: by name, as models are not to be had before
    Django is set up."""

    model: str
    whose: tuple[str, ...]
    told: tuple[str, ...]
    summed: tuple[str, ...]
    rank: tuple[str, ...]
    most: int
    has_totals: bool

    @property
    def rows(self) -> Any:
        return apps.get_model("aicache", self.model)

    def place(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return (row["span"], row["start"], *(row[name] for name in self.whose))


OWNED: Final = ("tenant", "everybody")
BUCKETS: Final = Table(
    "MetricBucket", ("total", "owner", "model", "policy"), OWNED, SUMMED, ("hit", "miss", "upstream_calls"), 2000, True
)
HOTSPOTS: Final = Table(
    "Hotspot",
    ("owner", "kind", "digest"),
    (*OWNED, "label", "key"),
    ("times", "nano_usd"),
    ("nano_usd", "times"),
    300,
    False,
)
TABLES: Final = (BUCKETS, HOTSPOTS)


class Overdue(Exception):
    """Others may have taken this process to be gone meanwhile."""


class NoPlace(Exception):
    """Nothing can be written there, whatever is tried. ``why``: with a place for the database's ``alias``.
    ``is_meant``: it is not even wanted."""

    def __init__(self, why: str, alias: str, *, is_meant: bool = False) -> None:
        super().__init__(why % {"alias": alias})
        self._why, self._alias = why, alias
        self.is_meant = is_meant

    @property
    def told(self) -> str:
        """In the reader's language; logs and commands have it in English."""
        return gettext(self._why) % {"alias": self._alias}


def find_place(using: str) -> None:
    """Raises NoPlace, and what the database does."""
    chosen = connections.settings.get(using, {})
    if chosen.get("ENGINE", "django.db.backends.dummy") == "django.db.backends.dummy":
        raise NoPlace(gettext_noop("there is no database"), using, is_meant=True)
    if not all(router.allow_migrate_model(using, table.rows) for table in TABLES):
        raise NoPlace(gettext_noop("the site's routers want none in the database '%(alias)s'"), using, is_meant=True)
    connection = connections[using]
    with connection.cursor() as cursor:
        there = connection.introspection.table_names(cursor)
        if not {table.rows._meta.db_table for table in TABLES} <= {*there}:
            lacking = gettext_noop(
                "the database '%(alias)s' lacks their tables: run \"manage.py migrate --database %(alias)s\""
            )
            raise NoPlace(lacking, using)


def is_seen_by_nobody() -> bool:
    """Whatever is written from here. Raises nothing."""
    try:
        return in_test() or in_memory(get_settings().database)
    except Exception:  # noqa: BLE001 - a driver is missing, for one: who writes will tell
        return False


def write_cells(cells: Sequence[Cell], process: str, *, using: str, in_time: Callable[[], object] = int) -> None:
    """Raises what the database does, and ``in_time``, which is asked before each statement; some may then be
    written."""
    _write(BUCKETS, [row(cell, process) for cell in cells], using, in_time)


def write_hotspots(spots: Sequence[Spot], process: str, *, using: str, in_time: Callable[[], object] = int) -> None:
    """Likewise."""
    _write(HOTSPOTS, [spot.row(process) for spot in spots], using, in_time)


def _write(table: Table, found: Sequence[Mapping[str, Any]], using: str, in_time: Callable[[], object]) -> None:
    for start in range(0, len(found), AT_ONCE):
        in_time()
        some, unique = found[start : start + AT_ONCE], ("process", "span", "start", *table.whose)
        write(using, partial(upsert, table.rows, some, using, unique=unique, update=(*table.told, *table.summed)))


def write_process(process: Process, flushed: int, announced: int, counts: Counts, *, using: str, is_new: bool) -> bool:
    """→ False: it was taken to be gone, so that what it had counted may have been rolled up. ``is_new``: it is not
    there yet. Raises what the database does."""
    from aicache.models import CountingProcess

    told = {
        "seen_at": Now(),
        "flushed": flushed,
        "announced": announced,
        "unsettled": counts.unsettled(),
        "under_way": counts.under_way(),
    }
    if is_new:
        known = {"id": process.id, "host": process.host, "pid": process.pid, "started": process.started}
        rows = [CountingProcess(**known, **told)]
        write(using, partial(insert, CountingProcess, rows, using, unique=("id",), update=[*told]))
        return True
    there = CountingProcess.objects.using(using).filter(id=process.id, unsettled__lt=GONE)
    return bool(write(using, partial(there.update, **told)))


def row(cell: Cell, process: str) -> dict[str, Any]:
    """Its fields."""
    return {
        "process": process,
        "span": MINUTE,
        "start": cell.minute,
        **whose(cell.place.tenant),
        "total": OF_PLACE,
        "model": cell.place.model,
        "policy": cell.place.policy,
        **dict(zip(FIGURES, cell.figures, strict=True)),
        **{name: round(usd * NANO_IN_DOLLAR) for name, usd in zip(NANO, cell.usd, strict=True)},
    }
