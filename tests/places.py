"""Where a database of a test's own may be, one that other processes can open: a file, or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services import SERVICES, postgresql_database


@contextmanager
def on_sqlite(directory: Path) -> Iterator[dict[str, Any]]:
    yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "place.sqlite3")}


@contextmanager
def on_postgresql(directory: Path) -> Iterator[dict[str, Any]]:
    if trouble := SERVICES["postgresql"].trouble():
        pytest.skip(f"PostgreSQL does not answer: {trouble}")
    with postgresql_database() as configuration:
        yield configuration


ON = [on_sqlite, pytest.param(on_postgresql, marks=pytest.mark.services)]
