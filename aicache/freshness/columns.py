"""What a row's columns hold, spelled in one way, whatever they were set to and whichever database they came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.db.models import Model
from django.utils import timezone

PLAIN: Final = (
    *(str, int, float, Decimal, UUID, bytes, bytearray, memoryview),
    *(date, time, timedelta, dict, list, tuple, set, frozenset),
)

Column = tuple[str, Any]
"""An attribute of a row, and the field that says what may be in it: of a foreign key, the one that it refers to."""


@lru_cache(maxsize=1024)
def compared(model: type[Model], skip_unchanged: bool) -> tuple[Column, ...]:
    """The columns by which two states of a row are told apart."""
    return tuple(
        column(field)
        for field in model._meta.concrete_fields
        if not field.generated and not (skip_unchanged and getattr(field, "auto_now", False))
    )


@lru_cache(maxsize=1024)
def keys(model: type[Model]) -> tuple[Column, ...]:
    """Those of the primary key."""
    return tuple(column(field) for field in model._meta.pk_fields)


def column(field: Any) -> Column:
    name: str = field.attname
    while field.is_relation:
        field = field.target_field
    return name, field


def canonical(field: Any, value: Any) -> Any:
    """As it comes from the database, whatever it was set to: "3" is 3 in a column of numbers."""
    if value is None:
        return None
    value = _unless_refused(field.to_python, value)
    if isinstance(value, Decimal) and getattr(field, "decimal_places", None) is not None and value.is_finite():
        return f"{value:z.{field.decimal_places}f}"
    if isinstance(value, datetime) and timezone.is_naive(value) and timezone.is_aware(timezone.now()):
        return timezone.make_aware(value, timezone.get_default_timezone())  # as Django does when it is saved
    if not isinstance(value, PLAIN):  # something of a field's own, which knows what the database is given for it
        value = _unless_refused(field.get_prep_value, value)
    return value


def stored(field: Any, value: Any) -> Any:
    """Of a key: as the database is given it, which may be spelled by its field's own rules."""
    value = canonical(field, value)
    if value is None or isinstance(value, datetime):
        return value
    return canonical(field, _unless_refused(field.get_prep_value, value))


def _unless_refused(made: Callable[[Any], Any], value: Any) -> Any:
    try:
        return made(value)
    except Exception:  # noqa: BLE001 - whatever a field raises is no error of who saves or asks
        return value


def in_json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=text)
    except TypeError:  # keys of several kinds, which the database will have as text
        return json.dumps(value, separators=(",", ":"), default=text, skipkeys=True)


def text(value: Any) -> Any:
    """To the microsecond, and in one time zone."""
    if isinstance(value, str):
        return str.__str__(value)  # of an enum's member, what the database is given
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime) and timezone.is_aware(value):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, dict | list):
        return in_json(value)
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
