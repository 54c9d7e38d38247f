"""A database of no interest: nothing of ours is in it, nobody writes to it, and it does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from aicache import database
from aicache.freshness import databases, drain

FAR = "far"


@contextmanager
def far(how: str, directory: Path) -> Iterator[str]:
    """Yields its alias, which stands before all others. It "refuses", or "hangs"."""
    before = dict(connections.settings)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        chosen: dict[str, Any] = {"NAME": str(directory / "nowhere" / "db.sqlite3")}
        if how == "hangs":
            pytest.importorskip("psycopg")
            port = silent.getsockname()[1]
            chosen = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": port}
        connections.settings.clear()
        connections.settings.update({FAR: {**before["default"], **chosen, "OPTIONS": {}}, **before})
        try:
            with connecting(), mock.patch.object(database, "PATIENCE", 0.2), mock.patch.object(database, "_asked", {}):
                yield FAR
        finally:
            connections.settings.clear()
            connections.settings.update(before)
            databases._silent.clear()
            drain._passed_over.clear()
            if hasattr(connections._connections, FAR):
                del connections[FAR]


@contextmanager
def connecting() -> Iterator[None]:
    """A test case lets threads connect to the databases alone that it names, which must have been there before it."""

    def ensure_connection(connection: Any) -> None:
        if connection.connection is None:
            with connection.wrap_database_errors:
                connection.connect()

    with mock.patch.object(BaseDatabaseWrapper, "ensure_connection", ensure_connection):
        yield
