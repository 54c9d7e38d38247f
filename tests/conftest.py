from __future__ import annotations

import atexit
import os

import pytest

from aicache.testing.valkey import Valkey

if "AICACHE_TEST_REDIS" not in os.environ:
    # Before the settings are read; one server for each process of the test run.
    _server = Valkey().start()
    atexit.register(_server.stop)
    os.environ["AICACHE_TEST_REDIS"] = _server.url

PATIENCE = 5.0

pytest_plugins = ["aicache.testing.plugin"]


@pytest.fixture(autouse=True)
def _told_nothing_yet() -> None:
    """What a process remembers of troubles that it has told, and of databases that it waits for, is no other test's."""
    from aicache.durable.work import COUNTING
    from aicache.freshness import databases, drain, loads, recovery, stamps

    COUNTING.over()
    loads._failed = False
    stamps._trouble = recovery._said = ""
    drain._passed_over.clear()
    databases._written.clear()


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a moment's silence is no trouble of Redis's or of the database's."""
    if "impatient" not in request.keywords:
        for module in ("store.clients", "store.connections", "store.line", "store.tags", "cache"):
            monkeypatch.setattr(f"aicache.{module}.BUDGET", PATIENCE)
