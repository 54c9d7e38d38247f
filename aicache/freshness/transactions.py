"""Which transaction is open, and how one must begin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction

from aicache.database import of_test


@contextlib.contextmanager
def ensured(using: str) -> Iterator[bool]:
    """A transaction, unless one is open. Yields whether it was opened here, in earnest.

    A test case's own transaction stands for none: there too hooks belong to what is done here.
    """
    connection: Any = connections[using]
    if connection.in_atomic_block:
        if connection.atomic_blocks and of_test(connection.atomic_blocks[-1]):
            with transaction.atomic(using=using, savepoint=False):
                yield False
        else:
            yield False
    elif connection.get_autocommit():
        with transaction.atomic(using=using):
            yield True
    else:  # transactions are managed by hand, and an atomic would commit on SQLite
        yield False


def lock(model: Any, using: str) -> None:
    """On SQLite: makes the next statement a write, as who reads first is told at once that the database is locked."""
    connection = connections[using]
    if connection.vendor != "sqlite":
        return
    quote = connection.ops.quote_name
    column = quote(model._meta.local_concrete_fields[0].column)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {quote(model._meta.db_table)} SET {column} = {column} WHERE 1 = 0")  # noqa: S608


def current(connection: Any) -> tuple[Any, set[Any]]:
    """What would be the transaction if there were no test case around it, and the savepoints that it is in.

    There, a hook outlives it.
    """
    for depth, block in enumerate(connection.atomic_blocks):
        if not of_test(block):
            savepoints = connection.savepoint_ids[:depth]
            return (block, savepoints[-1] if depth else None), set(savepoints)
    return None, set()
