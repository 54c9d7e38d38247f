from __future__ import annotations

import atexit
import os
from collections.abc import Iterator

import pytest

from aicache.testing.valkey import Valkey

if "AICACHE_TEST_REDIS" not in os.environ:
    # Before the settings are read; one server for each process of the test run.
    _server = Valkey().start()
    atexit.register(_server.stop)
    os.environ["AICACHE_TEST_REDIS"] = _server.url

pytest_plugins = ["aicache.testing.plugin"]


@pytest.fixture(autouse=True)
def _nothing_written() -> Iterator[None]:
    """A process waits for the databases that it has written to, and the next test may not ask them."""
    yield
    from aicache.freshness import databases

    databases._written.clear()
