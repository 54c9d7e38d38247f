"""Many wide rows of whole numbers, in one statement: Django prepares each value by itself, which takes longer than all
else that is done to count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections
from django.db.models import IntegerField, Model
from django.db.models.constants import OnConflict


def upsert(
    model: type[Model],
    rows: Sequence[Mapping[str, Any]],
    using: str,
    *,
    unique: tuple[str, ...],
    update: tuple[str, ...],
) -> None:
    """Rows by their fields' names, all of them but the ``id``: numbers, texts, and what is true or not. Those that are
    there, by their ``unique`` fields, get the ``update`` fields' new values. Raises what the database does."""
    connection = connections[using]
    quoted, meta = connection.ops.quote_name, model._meta
    fields = {field.attname: field for field in meta.concrete_fields if not field.primary_key}
    numbers = [name for name, field in fields.items() if isinstance(field, IntegerField)]
    texts = [name for name in fields if name not in numbers]
    columns = ", ".join(quoted(str(fields[name].column)) for name in (*texts, *numbers))
    changed, there = ([fields[name].column for name in chosen] for chosen in (update, unique))
    or_update = connection.ops.on_conflict_suffix_sql([*fields.values()], OnConflict.UPDATE, changed, there)
    marks = ", ".join(["%s"] * len(texts))
    # Numbers stand in the statement itself: no driver takes thousands of parameters in little time.
    values = ", ".join(f"({marks}, {', '.join([format(row[name], 'd') for name in numbers])})" for row in rows)
    with connection.cursor() as cursor:
        statement = f"INSERT INTO {quoted(meta.db_table)} ({columns}) VALUES {values} {or_update}"  # noqa: S608 - names of ours, and numbers
        cursor.execute(statement, [row[name] for row in rows for name in texts])
