from __future__ import annotations

import atexit
import os

from aicache.testing.valkey import Valkey

if "AICACHE_TEST_REDIS" not in os.environ:
    # Before the settings are read; one server for each process of the test run.
    _server = Valkey().start()
    atexit.register(_server.stop)
    os.environ["AICACHE_TEST_REDIS"] = _server.url

pytest_plugins = ["aicache.testing.plugin"]
