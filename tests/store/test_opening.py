"""The first callers of a loop, and of a server that turns out to be another: one opens for all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.exceptions import MovedError

from aicache.store import Address
from aicache.store.connections import Connections
from aicache.store.keys import Keys
from aicache.testing.valkey import Valkey
from tests.store.conftest import URL
from tests.store.servers import suspend
from tests.store.test_line import SITE, one

pytestmark = pytest.mark.impatient


@pytest.mark.parametrize("many", [1, 200])
def test_many_first_callers_of_a_loop_make_one_connection(many: int) -> None:
    with Valkey() as server, redis.Redis(port=server.port) as client:
        connections = Connections(Address((server.url,)), SITE)
        before = int(client.info("stats")["total_connections_received"])

        async def main() -> int:
            await asyncio.gather(*(connections.arun(one("PING")) for _ in range(many)))
            return len(connections._lines)

        assert asyncio.run(main()) == 1
        assert int(client.info("stats")["total_connections_received"]) == before + 1
        connections.close()


def test_an_opening_that_is_refused_is_tried_again() -> None:
    """Otherwise the loop's line would be refused for ever, though it is allowed by now."""
    with Valkey() as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-exists")
        connections = Connections(Address((f"redis://app:pw@127.0.0.1:{server.port}/0",)), SITE)

        async def main() -> None:
            for _ in range(2):
                outcomes = await asyncio.gather(
                    *(connections.arun(one("PING")) for _ in range(5)), return_exceptions=True
                )
                assert [str(outcome) for outcome in outcomes] == ["refused"] * 5
            client.execute_command("ACL", "SETUSER", "app", "+exists")
            assert await connections.arun(one("PING")) in (b"PONG", True)

        asyncio.run(main())
        connections.close()


def test_callers_who_leave_while_the_line_is_opened_leave_it_to_the_others() -> None:
    with Valkey() as server, redis.Redis(port=server.port) as client:
        connections = Connections(Address((server.url,)), SITE)
        before = int(client.info("stats")["total_connections_received"])

        async def main() -> None:
            for turns in range(8):
                first = [asyncio.create_task(connections.arun(one("PING"))) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in first[:4]:
                    task.cancel()
                outcomes = await asyncio.gather(*first, return_exceptions=True)
                assert outcomes[4] in (b"PONG", True)
                connections._forget()
            everybody = [asyncio.create_task(connections.arun(one("PING"))) for _ in range(5)]
            await asyncio.sleep(0)
            for task in everybody:
                task.cancel()
            await asyncio.gather(*everybody, return_exceptions=True)
            assert await connections.arun(one("PING")) in (b"PONG", True)

        asyncio.run(main())
        assert int(client.info("stats")["total_connections_received"]) <= before + 9
        connections.close()


def test_a_line_that_is_given_up_while_it_opens_is_nobodys_error() -> None:
    with Valkey() as server:
        connections = Connections(Address((server.url,)), SITE)

        async def main() -> None:
            for turns in range(30):
                asked = [asyncio.create_task(connections.arun(one("PING"))) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                connections._forget()
                asked.append(asyncio.create_task(connections.arun(one("PING"))))
                assert len(await asyncio.gather(*asked)) == 4
                connections._forget()

        asyncio.run(main())
        assert not connections.breaker.down
        connections.close()


def test_a_loop_that_ends_while_its_line_opens_ends() -> None:
    with Valkey() as server:
        with redis.Redis(port=server.port) as client:
            pid = int(client.info("server")["process_id"])
        connections = Connections(Address((server.url,)), SITE)

        async def main() -> None:
            asyncio.get_running_loop().leak = asyncio.create_task(connections.arun(one("PING")))  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)

        suspend(pid)
        began = time.monotonic()
        try:
            asyncio.run(main())
        finally:
            os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 3
        connections.close()


def test_a_cluster_that_is_found_out_by_many_at_once_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked as of a single server just before another found it out asks again, as of a cluster."""
    connections = Connections(Address((URL,)), SITE)
    asked: list[bool] = []

    def found_late(link: Any) -> str:
        asked.append(link.is_cluster)
        connections._cluster = True  # another thread has just found it out, and has not dropped the link yet
        if len(asked) == 1:
            raise MovedError("866 127.0.0.1:7000")
        return "done"

    monkeypatch.setattr(connections, "_cluster", False)
    monkeypatch.setattr("aicache.store.connections.Link", Single)
    assert connections._on_link(found_late) == "done"
    connections.close()


class Single:
    """A link to nowhere."""

    keys = Keys(SITE, "epoch")
    client = SimpleNamespace(connection_pool=SimpleNamespace(disconnect=lambda **_: None))

    def __init__(self, *_: Any, cluster: bool, **__: Any) -> None:
        self.is_cluster = cluster

    def open(self) -> Single:
        return self

    def is_due(self) -> bool:
        return False
