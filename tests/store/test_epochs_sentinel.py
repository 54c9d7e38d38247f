"""A sentinel sends everybody to a replica that knows less than the primary did: it brings nothing back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from aicache.store import Address, Store
from aicache.testing.valkey import free_port
from tests.store.servers import VALKEY, Server, serving, until
from tests.store.tagged import ARTICLE, keep, question
from tests.store.test_epochs import OLD, Reader, dead_for_good, keep_on

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server, int]]:
    """A primary, its replica, and the port of the sentinel that watches both."""
    with ExitStack() as stack:
        primary, replica = (stack.enter_context(serving(tmp_path / name)) for name in ("primary", "replica"))
        replica.follow(primary)
        port, config = free_port(), tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor helpdesk 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds helpdesk 500\nsentinel failover-timeout helpdesk 2000\n"
        )
        sentinel = subprocess.Popen([VALKEY, str(config), "--sentinel"], stdout=subprocess.DEVNULL, cwd=tmp_path)
        stack.callback(sentinel.wait)
        stack.callback(sentinel.kill)
        until(lambda: replicas(port) == 1, "the sentinel does not know the replica")
        yield primary, replica, port


def replicas(port: int) -> int:
    try:
        with redis.Redis(port=port) as client:
            return int(client.sentinel_master("helpdesk")["num-slaves"])
    except redis.RedisError:
        return 0


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_replica_that_the_sentinel_chose_had_missed_an_invalidation(
    servers: tuple[Server, Server, int], colour: str
) -> None:
    primary, replica, port = servers
    address = Address(("redis://helpdesk/0",), {"SENTINELS": [("127.0.0.1", port)]})
    reader, saver, ask = Reader(address, colour), Store(address, "site"), question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    primary.lag(replica)
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    primary.kill()
    replica.wake()
    until(lambda: b"role:master" in replica.command_text("INFO", "replication"), "no failover", 60)

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"new")
    until(lambda: reader.look(ask) == b"new")
    reader.close()
    saver.close()
