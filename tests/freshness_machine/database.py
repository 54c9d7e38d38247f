"""The tables, as the product asks them: each statement is a step, rows are seen once committed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import OperationalError
from django.db.models import Q

from aicache import models
from aicache.core.tags import EVERYBODY, Tag
from tests.freshness_machine.actors import pause
from tests.freshness_machine.oracle import Death


class Database:
    """``applied`` is told of each invalidation that is marked so."""

    def __init__(self, applied: Callable[[Death], None]) -> None:
        self.applied = applied
        self.invalidations, self.copies, self.keys = (Table(self, name) for name in ("invalidations", "copies", "keys"))
        self.tables = {
            models.Invalidation: self.invalidations,
            models.CacheEntry: self.copies,
            models.IdempotencyKey: self.keys,
        }
        self.away = 0
        self.loses_reply = False

    def execute(self, statement: str, act: Callable[[], Any]) -> Any:
        pause(statement)
        if self.away:
            raise OperationalError("the database is away")
        found = act()
        if self.loses_reply:
            self.loses_reply = False
            raise OperationalError("the reply is lost")
        return found

    def commit(self, deaths: Sequence[Death]) -> list[int]:
        rows = [Invalidation(death, self.applied) for death in deaths]
        self.invalidations.add(rows)
        return [row.id for row in rows]

    def generations(self, tags: Sequence[Tag]) -> tuple[int, ...]:
        def count() -> tuple[int, ...]:
            digests = [row.digest for row in self.invalidations.rows]
            return tuple(digests.count(tag.digest) for tag in tags)

        found: tuple[int, ...] = self.execute("SELECT generations", count) if tags else ()
        return found

    def insert(
        self, model: Any, rows: Sequence[Any], using: str, *, unique: Any = (), update: Sequence[str] = ()
    ) -> None:
        """As ``aicache.sqlite.insert``."""
        table = self.tables[model]
        self.execute(f"INSERT {table.name}", lambda: table.put(rows, update))


class Invalidation:
    """A row of that table."""

    id = 0
    # No name that gives the digest: the drain goes by that of the row.
    tenant = ""

    def __init__(self, death: Death, applied: Callable[[Death], None]) -> None:
        self.death = death
        self.digest = death.tag.digest
        self.tag = death.tag.name
        self.everybody = death.tag.tenant == EVERYBODY
        self._applied = applied
        self._applied_at: Any = None

    @property
    def applied_at(self) -> Any:
        return self._applied_at

    @applied_at.setter
    def applied_at(self, moment: Any) -> None:
        self._applied_at = moment
        self._applied(self.death)


class Table:
    """What stands in it. Where ``digest`` is unique, rows are put; else they are added."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self.rows: list[Any] = []
        self._last = 0

    def using(self, alias: str) -> Query:
        return Query(self)

    def add(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._last = row.id = self._last + 1
            self.rows.append(row)

    def remove(self, which: Callable[[Any], bool]) -> None:
        self.rows[:] = [row for row in self.rows if not which(row)]

    def put(self, rows: Iterable[Any], update: Sequence[str]) -> None:
        for row in rows:
            standing = next((other for other in self.rows if other.digest == row.digest), None)
            if standing is None:
                self.add([row])
            for name in update if standing is not None else ():
                setattr(standing, name, getattr(row, name))


@dataclass(frozen=True)
class Query:
    table: Table
    where: Q = Q()  # noqa: RUF009 - it is never changed
    order: str = ""
    names: tuple[str, ...] = ()

    def filter(self, *conditions: Q, **lookups: Any) -> Query:
        return replace(self, where=self.where & Q(*conditions, **lookups))

    def exclude(self, **lookups: Any) -> Query:
        return replace(self, where=self.where & ~Q(**lookups))

    def order_by(self, field: str) -> Query:
        return replace(self, order=field)

    def values_list(self, *names: str, flat: bool = False) -> Query:
        return replace(self, names=names)

    def __getitem__(self, some: slice) -> list[Any]:
        found: list[Any] = self._execute("SELECT", lambda: self._found()[some])
        return found

    def first(self) -> Any:
        return self._execute("SELECT", lambda: next(map(self._read, self._found()), None))

    def exists(self) -> bool:
        return bool(self._execute("SELECT", self._found))

    def update(self, **values: Any) -> int:
        def act() -> int:
            for row in (found := self._found()):
                for name, value in values.items():
                    setattr(row, name, value)
            return len(found)

        number: int = self._execute("UPDATE", act)
        return number

    def _raw_delete(self, using: str) -> None:
        self._execute("DELETE", lambda: self.table.remove(lambda row: _holds(self.where, row)))

    def _execute(self, verb: str, act: Callable[[], Any]) -> Any:
        return self.table.database.execute(f"{verb} {self.table.name}", act)

    def _found(self) -> list[Any]:
        found = [row for row in self.table.rows if _holds(self.where, row)]
        return found[::-1] if self.order.startswith("-") else found

    def _read(self, row: Any) -> Any:
        """As it is now."""
        values = tuple(getattr(row, name) for name in self.names)
        return copy.copy(row) if not values else values[0] if len(values) == 1 else values


def _holds(where: Q, row: Any) -> bool:
    each = (_holds(child, row) if isinstance(child, Q) else _suits(row, *child) for child in where.children)
    return (any(each) if where.connector == Q.OR else all(each)) != where.negated


def _suits(row: Any, lookup: str, value: Any) -> bool:
    name, _, how = lookup.partition("__")
    has = getattr(row, name)
    if has is None or value is None:
        return not how and has is value
    match how:
        case "":
            return bool(has == value)
        case "gt":
            return bool(has > value)
        case "lt":
            return bool(has < value)
        case "lte":
            return bool(has <= value)
        case "in":
            return has in value
    raise NotImplementedError(lookup)
