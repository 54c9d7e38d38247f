"""Writing to an SQLite database beside the site's own transactions, without failing one of them.

SQLite fails a transaction that has read and now wants to write, if somebody else writes at that moment or has written
since: at once, whatever its timeout. So what is ours is written one statement at a time, each a transaction of its own
inside SQLite, and only while no other is open in this process; it waits for nobody while it holds a lock. A transaction
that begins in the very instant of the statement is not seen, nor is another process:
``"transaction_mode": "IMMEDIATE"`` in the site's OPTIONS is for these, as it is for the site's own among themselves.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from weakref import WeakSet

from django.db import OperationalError, connections
from django.db.backends.signals import connection_created
from django.db.models import AutoField, Model
from django.db.models.constants import OnConflict

from aicache.database import in_memory, in_test
from aicache.forks import held_off

R = TypeVar("R")

# Seconds for which a moment without transactions is waited for.
LONGEST: Final = 30.0
# The same where a caller waits for it.
SOON: Final = 0.3
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
NORMAL: Final = 1


class Disturbed(OperationalError):
    """A transaction of the site's was opened meanwhile: nothing is written."""


def write(using: str, act: Callable[[], R], seconds: float = LONGEST) -> R:
    """``act()``, which writes in single statements, and may have to be done again.

    Elsewhere than on SQLite it is just that, in autocommit.

    Raises what the database does; on SQLite, OperationalError where for so long no moment was found for it.
    """
    if connections[using].vendor != "sqlite" or in_test():
        return act()
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            with _beside(using):
                return act()
        except OperationalError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def read(using: str, act: Callable[[], R], seconds: float = SOON) -> R:
    """``act()``, which reads, and may have to be done again: a database in memory tells who reads at once that somebody
    writes. Raises what the database does."""
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return act()
        except OperationalError as error:
            if not in_memory(using) or "locked" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def is_open_here(using: str) -> bool:
    """Whether this thread itself has a transaction open on that SQLite database, and would wait for itself."""
    connection: Any = connections[using]
    return bool(connection.vendor == "sqlite" and _is_open(connection) and not in_test())


@contextmanager
def _beside(using: str) -> Iterator[None]:
    own: Any = connections[using]
    name = own.settings_dict["NAME"]

    def execute(execute: Any, sql: str, *rest: Any) -> Any:
        # As late as can be: from here on SQLite does all that is to be done, without a thread having to be let in.
        if not sql.startswith("SELECT") and _others_are_open(name, own):
            raise Disturbed("a transaction is open")
        return execute(sql, *rest)

    # Who reads holds a lock from the statement until all rows are fetched.
    with held_off(), _impatient(own), own.execute_wrapper(execute):
        yield


@contextmanager
def _impatient(own: Any) -> Iterator[None]:
    """It waits for nobody while it holds a lock; and with a write-ahead log it is done sooner, and as safe.

    Raises what Django does.
    """
    before: dict[str, int] = {}
    try:
        with own.wrap_database_errors:
            own.ensure_connection()
            # First: it is the only one that needs no lock, for which another process may let us wait.
            _set(own, "busy_timeout", 0, before)
            # Whoever called us may have a transaction open: then it is too late for that.
            if not own.connection.in_transaction and _pragma(own, "journal_mode") == "wal":
                _set(own, "synchronous", NORMAL, before)
        yield
    finally:
        for name, value in before.items():
            _pragma(own, f"{name} = {value}")


def _set(own: Any, name: str, value: int, before: dict[str, int]) -> None:
    before[name] = _pragma(own, name)
    _pragma(own, f"{name} = {value}")


def _pragma(own: Any, pragma: str) -> Any:
    found = own.connection.execute(f"PRAGMA {pragma}").fetchone()
    return None if found is None else found[0]


def insert(
    model: type[Model], rows: Sequence[Any], using: str, *, unique: Sequence[str] = (), update: Sequence[str] = ()
) -> None:
    """One statement for as many rows as it takes, where ``bulk_create`` makes a transaction of it.

    Rows that stand in the way of their ``unique`` fields stay as they are, or get the ``update`` fields' new values.
    Raises what the database does.
    """
    options, operations = model._meta, connections[using].ops
    fields = [field for field in options.concrete_fields if not isinstance(field, AutoField)]
    target = connections[using].features.supports_update_conflicts_with_target
    for start in range(0, len(rows), step := max(operations.bulk_batch_size(fields, rows), 1)):
        model._default_manager.using(using)._insert(  # type: ignore[attr-defined]  # Django's own
            rows[start : start + step],
            fields,
            using=using,
            on_conflict=OnConflict.UPDATE if update else OnConflict.IGNORE,
            update_fields=[options.get_field(name) for name in update] or None,
            unique_fields=[options.get_field(name) for name in unique] if update and target else None,
        )


def _others_are_open(name: Any, own: Any) -> bool:
    with _knowing:
        known = [connection for connection in _known if connection is not own]
    return any(connection.settings_dict["NAME"] == name and _is_open(connection) for connection in known)


def _is_open(connection: Any) -> bool:
    raw = connection.connection
    if raw is None or connection.in_atomic_block:
        return raw is not None
    try:
        return bool(raw.in_transaction)  # by hand, or without autocommit: from the first statement that writes
    except sqlite3.ProgrammingError:  # its thread has just closed it
        return False


_known: Final[WeakSet[Any]] = WeakSet()
_knowing = threading.Lock()


def _remember(connection: Any, **_: Any) -> None:
    if connection.vendor == "sqlite":
        with _knowing:
            _known.add(connection)


connection_created.connect(_remember, dispatch_uid="aicache.sqlite")


def _forget_after_fork() -> None:
    global _knowing
    _knowing = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
