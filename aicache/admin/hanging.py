"""Entries by the tags that they hang on. Those are a list of names in a column without an index: the table is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import NotSupportedError
from django.db.models import BooleanField, F, Func, QuerySet, Value

from aicache.durable.rows import LONGEST
from aicache.freshness.outbox import storable


class HangsOn(Func):
    """Whether one of these names is among an entry's tags."""

    output_field = BooleanField()

    def __init__(self, names: Sequence[str], **more: Any) -> None:
        super().__init__(F("tags"), *(Value(storable(name, LONGEST)) for name in names), **more)

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        raise NotSupportedError(f"what hangs on a tag cannot be told on {args[1].vendor}")

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        return self._spelled(compiler, "EXISTS (SELECT 1 FROM JSON_EACH({tags}) WHERE value IN ({names}))")

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        return self._spelled(compiler, "{tags} ?| ARRAY[{names}]::text[]")

    def as_mysql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        return self._spelled(compiler, "JSON_OVERLAPS({tags}, JSON_ARRAY({names}))")

    def _spelled(self, compiler: Any, template: str) -> tuple[str, list[Any]]:
        (tags, given), *names = (compiler.compile(source) for source in self.get_source_expressions())
        spelled = template.format(tags=tags, names=", ".join(sql for sql, _ in names))
        return spelled, [*given, *(value for _, values in names for value in values)]


def hanging_on(rows: QuerySet[Any], names: Sequence[str]) -> QuerySet[Any]:
    return rows.filter(HangsOn(names))
