"""The table of invalidations, as outbox and drain ask it: each statement is a step, rows are seen once committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError

from aicache.core.tags import EVERYBODY, Tag
from tests.freshness_machine.actors import pause
from tests.freshness_machine.oracle import Death


@dataclass(eq=False)
class Row:
    id: int
    death: Death
    applied_at: Any = None

    @property
    def digest(self) -> str:
        return self.death.tag.digest

    @property
    def tag(self) -> str:
        return self.death.tag.name

    @property
    def everybody(self) -> bool:
        return self.death.tag.tenant == EVERYBODY

    @property
    def tenant(self) -> str:
        """No name that gives the digest: the drain goes by that of the row."""
        return ""


@dataclass
class Table:
    """Stands for ``aicache.models.Invalidation``."""

    applied: Callable[[Death], None]
    rows: list[Row] = field(default_factory=list)
    away: int = 0

    @property
    def objects(self) -> Table:
        return self

    def using(self, alias: str) -> Query:
        return Query(self)

    def reach(self, statement: str) -> None:
        pause(statement)
        if self.away:
            raise OperationalError("the database is away")

    def commit(self, deaths: Sequence[Death]) -> list[int]:
        rows = [Row(len(self.rows) + at, death) for at, death in enumerate(deaths, 1)]
        self.rows += rows
        return [row.id for row in rows]

    def generations(self, tags: Sequence[Tag]) -> tuple[int, ...]:
        self.reach("SELECT generations")
        return tuple(sum(row.digest == tag.digest for row in self.rows) for tag in tags)

    def pending(self) -> list[Row]:
        return [row for row in self.rows if row.applied_at is None]


@dataclass
class Query:
    table: Table
    only: dict[str, Any] = field(default_factory=dict)

    def filter(self, **only: Any) -> Query:
        return Query(self.table, {**self.only, **only})

    def order_by(self, field: str) -> Query:
        return self

    def __getitem__(self, some: slice) -> list[Row]:
        self.table.reach("SELECT pending")
        return self._found()[some]

    def update(self, applied_at: Any) -> int:
        self.table.reach("UPDATE applied")
        for row in (found := self._found()):
            row.applied_at = applied_at
            self.table.applied(row.death)
        return len(found)

    def _found(self) -> list[Row]:
        def suits(row: Row, what: str, value: Any) -> bool:
            match what:
                case "applied_at":
                    return row.applied_at is value
                case "id__gt":
                    return row.id > value
                case "id__in":
                    return row.id in value
            raise NotImplementedError(what)

        return [row for row in self.table.rows if all(suits(row, *condition) for condition in self.only.items())]
