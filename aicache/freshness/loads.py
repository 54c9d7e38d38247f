"""What a call needs to know of its sources' rows and what is not in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from django.db import router
from django.db.models import Model

from aicache.core.operations import Unavailable
from aicache.database import BUDGET, apart
from aicache.freshness import options
from aicache.freshness.rows import plain

logger = logging.getLogger("aicache")

_failed = False


class Loads:
    """Of one call: all that it loads takes no longer than BUDGET. Apart from the caller's connection, and unseen by it.

    What a transaction of the caller's has not committed is therefore not there yet.
    """

    def __init__(self) -> None:
        self._until: float | None = None

    def row(self, at: Model, model: type[Model], where: Mapping[str, Any], columns: tuple[str, ...]) -> Any:
        """These columns of a row that ``at`` is or leads to, as a tuple; None where it is not there.

        Raises Unavailable.
        """
        if self._until is None:
            self._until = time.monotonic() + BUDGET
        using = at._state.db or router.db_for_read(model, instance=at)
        loading = apart(_row, model, using, where, columns)
        try:
            found = loading.result(max(self._until - time.monotonic(), 0))
        except Exception as error:
            loading.cancel()
            _tell(error)
            raise Unavailable("database") from error
        _tell(None)
        return found

    def along(self, path: tuple[str, ...], row: Model) -> Any:
        """What stands at the end of a path of fields, as far as in memory by what is there. Raises Unavailable.

        Also where a row of the path is not there: it may be one that a transaction has yet to commit.
        """
        at: Any = row
        for depth, segment in enumerate(path):
            field = at._meta.pk if segment == "pk" else at._meta.get_field(segment)
            rest = path[depth + 1 :]
            if rest and field.is_cached(at):
                at = field.get_cached_value(at)
                if at is None:
                    return None
                continue
            value = vars(at).get(field.attname, at)
            is_known = value is not at and not hasattr(value, "resolve_expression")
            if is_known and (value is None or not rest):
                return value
            if in_memory_only():
                return options.along(path[depth:], at)  # Django's own error says what is the matter
            if is_known:
                where = {field.target_field.name: value}
                found = self.row(at, field.remote_field.model, where, ("__".join(rest),))
            else:
                found = self.row(at, type(at), {"pk": at.pk}, ("__".join(path[depth:]),))
            if found is None:
                raise Unavailable("database")
            return found[0]
        return at


def _row(model: type[Model], using: str, where: Mapping[str, Any], columns: tuple[str, ...]) -> Any:
    return next(iter(plain(model, using).filter(**where).values_list(*columns)[:1]), None)


def _tell(error: Exception | None) -> None:
    """Of each change of state, once."""
    global _failed
    if (error is not None) == _failed:
        return
    _failed = error is not None
    if error is not None:
        logger.warning("the database does not tell what a source is: such calls go to upstream", exc_info=error)
    else:
        logger.warning("the database tells again what a source is")


def in_memory_only() -> bool:
    """In a running event loop, which must not wait for a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
