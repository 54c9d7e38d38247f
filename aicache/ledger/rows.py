"""How counts are written: rows that stand for themselves, so that each may be written twice, or late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django.apps import apps
from django.db import connections, router
from django.db.models import Model
from django.db.models.functions import Now

from aicache.core.tags import EVERYBODY
from aicache.ledger.counts import FIGURES, Cell
from aicache.ledger.process import Process
from aicache.ledger.prompts import PROMPT_FIGURES, PROMPT_MONEY, PromptFigures
from aicache.sqlite import insert, write
from aicache.tenants import shown, tenant_digest

# A transaction of ours ends soon, however many tenants there are: SQLite lets nobody else write meanwhile.
AT_ONCE: Final = 200
NANO: Final = Decimal(10) ** 9
MONEY: Final = ("saved_nano_usd", "premium_nano_usd")
WHOSE: Final = ("tenant", "everybody")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one process, or of none, in one minute or hour. ``whose``: what their figures are told apart by besides;
    ``summed``: those that are added up. ``model``: by name, as models are not to be had before Django is set up."""

    model: str
    whose: tuple[str, ...]
    summed: tuple[str, ...]

    @property
    def rows(self) -> Any:
        return apps.get_model("aicache", self.model)

    def place(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return (row["minute"], *(row[name] for name in self.whose))


CALLS: Final = Table("CallCount", ("owner",), (*FIGURES, *MONEY))
PROMPTS: Final = Table("PromptCount", ("owner", "model"), (*PROMPT_FIGURES, *PROMPT_MONEY))


class NoPlace(Exception):
    """Nothing can be written there, whatever is tried. ``is_meant``: it is not even wanted."""

    def __init__(self, why: str, *, is_meant: bool = False) -> None:
        super().__init__(why)
        self.is_meant = is_meant


def find_place(using: str) -> None:
    """Raises NoPlace, and what the database does."""
    chosen = connections.settings.get(using, {})
    if chosen.get("ENGINE", "django.db.backends.dummy") == "django.db.backends.dummy":
        raise NoPlace("there is no database", is_meant=True)
    if not all(router.allow_migrate_model(using, table.rows) for table in (CALLS, PROMPTS)):
        raise NoPlace(f"the site's routers want none in the database {using!r}", is_meant=True)
    connection = connections[using]
    with connection.cursor() as cursor:
        there = connection.introspection.table_names(cursor)
        if not {table.rows._meta.db_table for table in (CALLS, PROMPTS)} <= {*there}:
            raise NoPlace(f'the database {using!r} lacks their tables: run "manage.py migrate --database {using}"')


def write_cells(cells: Sequence[Cell], process: str, *, using: str) -> None:
    """Raises what the database does; some may then be written."""
    for table, found in (
        (CALLS, [row(cell, process) for cell in cells]),
        (PROMPTS, [one for cell in cells for one in prompt_rows(cell, process)]),
    ):
        for start in range(0, len(found), AT_ONCE):
            some = [table.rows(**fields) for fields in found[start : start + AT_ONCE]]
            _upsert(table.rows, some, ("process", "minute", *table.whose), (*WHOSE, *table.summed), using)


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
    return {
        **_place(cell, process),
        **dict(zip(FIGURES, cell.figures, strict=True)),
        "saved_nano_usd": round(cell.usd * NANO),
        "premium_nano_usd": round(cell.premium * NANO),
    }


def prompt_rows(cell: Cell, process: str) -> Iterator[dict[str, Any]]:
    """Likewise, for each model. Names that are cut to the same one are one."""
    from aicache.models import LONGEST_LABEL

    by_label: dict[str, PromptFigures] = {}
    for model, figures in cell.prompts.items():
        by_label.setdefault(_label(model, LONGEST_LABEL), PromptFigures()).take(figures)
    for label, figures in by_label.items():
        yield {
            **_place(cell, process),
            "model": label,
            **figures.figures,
            "redundant_nano_usd": round(figures.redundant_usd * NANO),
            "gate_nano_usd": round(figures.gate_usd * NANO),
        }


def _place(cell: Cell, process: str) -> dict[str, Any]:
    from aicache.models import LONGEST_LABEL

    digest = "" if cell.tenant is None else tenant_digest(cell.tenant)
    label = "" if cell.tenant is None else shown(cell.tenant)
    return {
        "process": process,
        "minute": cell.minute,
        "owner": digest,
        "tenant": _label(label, LONGEST_LABEL),
        "everybody": digest == EVERYBODY,
    }


def _label(name: str, longest: int) -> str:
    return name.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:longest]  # PostgreSQL takes no NUL


def _upsert(model: type[Model], rows: list[Any], unique: Sequence[str], fields: Sequence[str], using: str) -> None:
    """In single statements."""
    write(using, partial(insert, model, rows, using, unique=unique, update=fields))
