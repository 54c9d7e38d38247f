"""What a row is, in few characters: the same in every process, another one when a column changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django.db.models import Model

from aicache.errors import ArgumentError
from aicache.freshness.columns import Column, canonical, column, compared, in_json, text
from aicache.freshness.loads import Loads, in_memory_only
from aicache.freshness.options import Options

UNKNOWN: Final = {"unknown": True}
"""Stands for a column that has not been loaded and cannot be: in a running event loop, or as the row is not there."""


def version(instance: Model, options: Options, loads: Loads) -> str:
    """Raises Unavailable, and ArgumentError where a callable says nothing."""
    chosen = options.version
    if isinstance(chosen, str):
        name, field = column(instance._meta.get_field(chosen))
        value = vars(instance).get(name, UNKNOWN)
        if value is not UNKNOWN and not hasattr(value, "resolve_expression"):
            value = canonical(field, value)
            return str(text(value)) if isinstance(value, datetime | str) else in_json(value)
        chosen = None  # what is loaded now may be of a newer row than the one in hand: its other columns tell
    if chosen is None:
        found = _values(instance, compared(type(instance), options.skip_unchanged), loads)
        return hashlib.sha256(in_json(found).encode(errors="surrogatepass")).hexdigest()
    said = chosen(instance)
    if said is None or asyncio.iscoroutine(said):
        if said is not None:
            said.close()
        raise ArgumentError(f"the version of {instance._meta.label} {instance.pk!r} is {said!r}; accepted: str or int")
    return str(said)


def _values(instance: Model, columns: Iterable[Column], loads: Loads) -> dict[str, Any]:
    """Nothing is written to the instance: what is not loaded stays so, and an expression may yet have to be saved."""
    inside = vars(instance)
    found: dict[str, Any] = {}
    missing: list[Column] = []
    for name, field in columns:
        value = inside.get(name, UNKNOWN)
        if value is UNKNOWN or hasattr(value, "resolve_expression"):
            missing.append((name, field))
        else:
            found[name] = canonical(field, value)
    if missing:
        names = tuple(name for name, _ in missing)
        row = None if in_memory_only() else loads.row(instance, type(instance), {"pk": instance.pk}, names)
        for (name, field), value in zip(missing, row or (), strict=False):
            found[name] = canonical(field, value)
        for name in names:
            found.setdefault(name, UNKNOWN)
    return found
