"""The line of an event loop: every asker has a reply or an error, whatever becomes of server, client or loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync

from aicache.core.operations import Unavailable
from aicache.store import Address
from aicache.store.connections import Connections, Make
from aicache.store.scripts import Plan
from aicache.testing.valkey import Valkey
from tests.store.conftest import URL
from tests.store.servers import suspend

pytestmark = pytest.mark.impatient

SITE = "site"


def one(*command: Any) -> Make:
    def plan(*_: Any) -> Plan:
        return (yield command)

    return plan


@pytest.fixture
def connections() -> Iterator[Connections]:
    connections = Connections(Address((URL,)), SITE)
    yield connections
    connections.close()


@contextmanager
def talking(said: bytes) -> Iterator[str]:
    """A server that says the same to everybody, whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def talk() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(2)
                    try:
                        while connection.recv(65536):
                            connection.sendall(said)
                    except OSError:
                        pass

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        ended.set()
        thread.join()


@pytest.mark.parametrize("said", [b":abc\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"?\r\n", b"*1\r\n+OK\r\n"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_server_that_talks_nonsense_is_unavailable(said: bytes, colour: str) -> None:
    def plan(*_: Any) -> Plan:
        first, second = yield ("MGET", "a", "b")
        return first, second

    with talking(said) as url:
        connections = Connections(Address((url,)), SITE)
        with pytest.raises(Unavailable):
            connections.run(plan) if colour == "sync" else asyncio.run(connections.arun(plan))
        assert connections.breaker.down
        connections.close()


@pytest.mark.parametrize("options", [{"no_such_option": 1}, {"ssl_cert_reqs": "none"}])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_option_that_no_connection_takes_hangs_nobody(options: dict[str, Any], colour: str) -> None:
    connections = Connections(Address((URL,), {"CONNECTION_POOL_KWARGS": options}), SITE)
    with pytest.raises(Unavailable):
        connections.run(one("PING")) if colour == "sync" else asyncio.run(connections.arun(one("PING")))
    connections.close()


def test_a_cluster_that_is_down_hangs_nobody() -> None:
    cluster = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}
    connections = Connections(Address(("redis://127.0.0.1:1/0",), cluster), SITE)
    with pytest.raises(Unavailable):
        asyncio.run(asyncio.wait_for(connections.arun(one("PING")), 5))
    connections.close()


def test_a_loop_that_ends_while_somebody_waits_ends() -> None:
    with Valkey() as server:
        connections = Connections(Address((server.url,)), SITE)
        with redis.Redis(port=server.port) as client:
            pid = int(client.info("server")["process_id"])

        async def last_word() -> None:
            try:
                await connections.arun(one("PING"))
            finally:
                with suppress(Unavailable):
                    await connections.arun(one("SET", "last", "word"))

        async def main() -> None:
            await connections.arun(one("PING"))
            suspend(pid)
            asyncio.get_running_loop().leak = asyncio.create_task(last_word())  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)

        began = time.monotonic()
        try:
            asyncio.run(main())
        finally:
            os.kill(pid, signal.SIGCONT)
        connections.close()

    assert time.monotonic() - began < 3


@pytest.mark.parametrize("how", ["asyncio.run", "async_to_sync"])
def test_loops_that_have_ended_are_forgotten(connections: Connections, how: str) -> None:
    for _ in range(20):
        if how == "asyncio.run":
            asyncio.run(connections.arun(one("PING")))
        else:
            async_to_sync(connections.arun)(one("PING"))
    gc.collect()

    assert not connections._lines


def test_a_loop_that_was_closed_rudely_is_forgotten_by_the_next(connections: Connections) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(connections.arun(one("PING")))
    (line,) = connections._lines.values()
    loop.run_until_complete(line.client.aclose())
    loop.close()

    async def look() -> int:
        await connections.arun(one("PING"))
        return len(connections._lines)

    assert asyncio.run(look()) == 1


def test_connections_dropped_under_many_tasks_are_nobodys_error(connections: Connections) -> None:
    async def main() -> None:
        async def ask() -> None:
            for _ in range(20):
                assert await connections.arun(one("ECHO", "x")) == b"x"

        async def drop() -> None:
            for _ in range(50):
                connections._forget()
                await asyncio.sleep(0)

        await asyncio.gather(*(ask() for _ in range(40)), drop())

    asyncio.run(main())


def test_a_thousand_large_answers_in_one_instant_are_no_outage(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aicache.store.line.BUDGET", 1.0
    )  # the server has 50 MB to read, on what is left of a processor

    async def main() -> None:
        body = b"x" * 100_000
        await asyncio.gather(*(connections.arun(one("SET", f"large:{n}", body, "PX", 5000)) for n in range(500)))
        replies = await asyncio.gather(*(connections.arun(one("GET", f"large:{n}")) for n in range(500)))
        assert all(reply == body for reply in replies)

    asyncio.run(main())


def test_more_threads_than_a_pool_usually_has_are_no_outage(connections: Connections) -> None:
    failed = []
    barrier = threading.Barrier(150)

    def ask() -> None:
        barrier.wait(30)
        try:
            connections.run(one("ECHO", "x"))
        except Unavailable as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed


@pytest.mark.parametrize("options", [{"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}, {}])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_password_never_goes_out_in_the_clear_where_tls_was_asked_for(options: dict[str, Any], colour: str) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            listener.settimeout(3)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return
            with connection:
                connection.settimeout(1)
                heard.append(connection.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        port = listener.getsockname()[1]
        connections = Connections(Address((f"rediss://user:secret@127.0.0.1:{port}/0",), options), SITE)
        with pytest.raises(Unavailable):
            connections.run(one("PING")) if colour == "sync" else asyncio.run(connections.arun(one("PING")))
        connections.close()
        thread.join()

    assert heard
    assert heard[0][:1] == b"\x16"  # a TLS handshake
    assert b"secret" not in heard[0]


def test_a_reaction_that_fails_leaves_the_breaker_probing(connections: Connections) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    connections.breaker.on_open.insert(0, fail)
    connections.breaker.trip(OSError("gone"))
    deadline = time.monotonic() + 5
    while connections.breaker.down:
        assert time.monotonic() < deadline
        time.sleep(0.05)
