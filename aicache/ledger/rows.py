"""How counts are written: rows that stand for themselves, so that each may be written twice, or late."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.db import connections, router
from django.db.models import Model
from django.db.models.functions import Now

from aicache.core.tags import EVERYBODY
from aicache.ledger.counts import FIGURES, Cell
from aicache.ledger.process import Process
from aicache.sqlite import insert, write
from aicache.tenants import shown, tenant_digest

# A transaction of ours ends soon, however many tenants there are: SQLite lets nobody else write meanwhile.
AT_ONCE: Final = 200
NANO: Final = Decimal(10) ** 9
MONEY: Final = ("saved_nano_usd", "premium_nano_usd")
WHOSE: Final = ("tenant", "everybody")
CELL: Final = ("process", "minute", "owner")


class NoPlace(Exception):
    """Nothing can be written there, whatever is tried. ``is_meant``: it is not even wanted."""

    def __init__(self, why: str, *, is_meant: bool = False) -> None:
        super().__init__(why)
        self.is_meant = is_meant


def find_place(using: str) -> None:
    """Raises NoPlace, and what the database does."""
    from aicache.models import CallCount

    chosen = connections.settings.get(using, {})
    if chosen.get("ENGINE", "django.db.backends.dummy") == "django.db.backends.dummy":
        raise NoPlace("there is no database", is_meant=True)
    if not router.allow_migrate_model(using, CallCount):
        raise NoPlace(f"the site's routers want none in the database {using!r}", is_meant=True)
    connection = connections[using]
    with connection.cursor() as cursor:
        if CallCount._meta.db_table not in connection.introspection.table_names(cursor):
            raise NoPlace(f'the database {using!r} lacks their table: run "manage.py migrate --database {using}"')


def write_cells(cells: Sequence[Cell], process: str, *, using: str) -> None:
    """Raises what the database does; some may then be written."""
    from aicache.models import CallCount

    for start in range(0, len(cells), AT_ONCE):
        some = [CallCount(**row(cell, process)) for cell in cells[start : start + AT_ONCE]]
        _upsert(CallCount, some, CELL, (*WHOSE, *FIGURES, *MONEY), using)


def write_process(process: Process, flushed: int, announced: int, *, using: str) -> None:
    """Raises what the database does."""
    from aicache.models import CountingProcess

    written: Any = CountingProcess(
        id=process.id,
        host=process.host,
        pid=process.pid,
        started=process.started,
        seen_at=Now(),
        flushed=flushed,
        announced=announced,
    )
    _upsert(CountingProcess, [written], ("id",), ("seen_at", "flushed", "announced"), using)


def row(cell: Cell, process: str) -> dict[str, Any]:
    """Its fields."""
    from aicache.models import LONGEST_LABEL

    digest = "" if cell.tenant is None else tenant_digest(cell.tenant)
    label = "" if cell.tenant is None else shown(cell.tenant)
    return {
        "process": process,
        "minute": cell.minute,
        "owner": digest,
        "tenant": label.replace("\0", "\ufffd")[:LONGEST_LABEL],  # PostgreSQL takes no NUL
        "everybody": digest == EVERYBODY,
        **dict(zip(FIGURES, cell.figures, strict=True)),
        "saved_nano_usd": round(cell.usd * NANO),
        "premium_nano_usd": round(cell.premium * NANO),
    }


def _upsert(model: type[Model], rows: list[Any], unique: Sequence[str], fields: Sequence[str], using: str) -> None:
    """In single statements."""
    write(using, partial(insert, model, rows, using, unique=unique, update=fields))
