"""A server that forgot an invalidation serves no answer that died of it, whoever is still connected."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from aicache.core.operations import Look, Unavailable
from aicache.core.records import Ask
from aicache.store import Address, Store, links
from tests.store.servers import REDIS, VALKEY, Server, serving, until
from tests.store.tagged import ARTICLE, found, keep, look, question

BINARIES = {"valkey": VALKEY, **({"redis": REDIS} if REDIS else {})}
OLD = b"made from the old row"


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> str:
    return BINARIES[request.param]


@pytest.fixture
def server(binary: str, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "primary", binary) as server:
        yield server


class Reader:
    """A process that asks again and again, over connections that it keeps."""

    def __init__(self, address: Address, colour: str) -> None:
        self.store = Store(address, "site")
        self._loop = asyncio.new_event_loop() if colour == "async" else None

    def look(self, ask: Ask) -> bytes | None:
        """The answer, None where there is none or Redis is out of reach."""
        try:
            seen = (
                self.store.perform(Look(ask))
                if self._loop is None
                else self._loop.run_until_complete(self.store.aperform(Look(ask)))
            )
        except Unavailable:
            return None
        return seen.entry and seen.entry.answer.body

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
        self.store.close()


@pytest.fixture(params=["sync", "async"])
def reader(request: pytest.FixtureRequest, server: Server) -> Iterator[Reader]:
    reader = Reader(Address((server.url,)), request.param)
    yield reader
    reader.close()


@pytest.fixture
def saver(server: Server) -> Iterator[Store]:
    store = Store(Address((server.url,)), "site")
    yield store
    store.close()


def back(store: Store) -> None:
    until(lambda: not store.connections.breaker.down, "Redis is not used again")


def dead_for_good(reader: Reader, ask: Ask) -> None:
    """Looked at until Redis is trusted again, and then some."""
    for _ in range(30):
        assert reader.look(ask) is None
    back(reader.store)
    for _ in range(10):
        assert reader.look(ask) is None


def keep_on(store: Store, ask: Ask, body: bytes) -> None:
    def kept() -> bool:
        try:
            return keep(store, ask, body).answer.body == body
        except (Unavailable, AssertionError):
            return False

    until(kept)


def with_pools_of(number: int, store: Store) -> None:
    """As many idle connections."""
    barrier = threading.Barrier(number)

    def ask() -> None:
        barrier.wait(10)
        store.is_on()

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_snapshot_from_before_an_invalidation_brings_nothing_back(
    server: Server, reader: Reader, saver: Store
) -> None:
    ask = question()
    with_pools_of(5, reader.store)
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    server.save()
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    server.go_back()
    assert any(b":e:" in key for key in server.command("KEYS", "*"))  # it has it, truly

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"new")
    assert reader.look(ask) == b"new"


def test_a_restart_that_nobody_noticed_brings_nothing_back(server: Server, reader: Reader, saver: Store) -> None:
    """No command failed in between: idle connections find the new server at their next command."""
    ask = question()
    keep(saver, ask, OLD)
    with_pools_of(3, reader.store)
    assert reader.look(ask) == OLD
    server.save()
    saver.stamp([ARTICLE])
    server.go_back()
    for _ in range(20):
        assert reader.look(ask) is None


def test_a_saver_that_was_connected_before_is_heard_after(server: Server, reader: Reader, saver: Store) -> None:
    ask, fresh = question(), Store(Address((server.url,)), "site")
    keep(saver, ask, OLD)
    server.save()
    server.go_back()
    keep(fresh, ask, b"made after the restart")
    until(lambda: reader.look(ask) == b"made after the restart")

    # Its connections are those of before: it is turned away, or what it says is said to the server of now.
    try:
        saver.stamp([ARTICLE])
    except Unavailable:
        back(saver)
        saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    assert look(fresh, ask).entry is None
    fresh.close()


def test_flushed_it_is_a_miss(server: Server, reader: Reader, saver: Store) -> None:
    ask = question()
    keep(saver, ask, OLD)
    server.save()
    server.command("FLUSHALL")
    assert reader.look(ask) is None
    saver.stamp([ARTICLE])
    keep(saver, ask, b"new")
    assert reader.look(ask) == b"new"


def test_a_plans_keys_and_its_connection_are_of_one_server(server: Server, saver: Store) -> None:
    """Who has begun on the former server's link ends there, or nowhere."""
    ask = question()
    keep(saver, ask, OLD)
    former = saver.connections._link
    assert former is not None
    server.save()
    server.go_back()
    with pytest.raises(Unavailable):
        look(saver, ask)
    back(saver)
    now = saver.connections._link
    assert now is not None
    assert now is not former
    assert now.keys.epoch != former.keys.epoch
    with pytest.raises(redis.ConnectionError):
        former.client.execute_command("GET", former.keys.stamp(ARTICLE.digest))


def test_who_is_interrupted_while_a_connection_is_met_leaves_no_stranger_in_the_pool(
    server: Server, saver: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.is_on()
    link = saver.connections._link
    assert link is not None
    link.client.connection_pool.disconnect()
    server.save()
    server.go_back()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(links.Link, "_compare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            saver.is_on()
    with pytest.raises(Unavailable):  # it would be met by nobody
        saver.is_on()


def refusing(server: Server) -> str:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info")
    return f"redis://app:pw@127.0.0.1:{server.port}/0"


def test_a_server_that_does_not_say_who_it_is_works_and_that_is_said_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store, ask = Store(Address((refusing(server),)), "site"), question()
    keep(store, ask, OLD)
    for _ in range(3):
        assert asyncio.run(store.aperform(Look(ask))).entry is not None
    with_pools_of(3, store)
    store.stamp([ARTICLE])
    assert look(store, ask).entry is None
    assert ["INFO" in record.getMessage() for record in caplog.records] == [True]
    store.close()


def test_a_unix_socket_has_no_host_and_works(binary: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(tmp_path / "unix", binary, unixsocket=path) as server:
        store, ask = Store(Address((f"unix://{path}?db=0",)), "site"), question()
        keep(store, ask, OLD)
        assert asyncio.run(store.aperform(Look(ask))).entry is not None
        server.save()
        store.stamp([ARTICLE])
        server.go_back()
        for _ in range(5):
            try:
                assert look(store, ask).entry is None
            except Unavailable:
                back(store)
        store.close()


def test_a_full_server_forgets_all_the_same(server: Server, reader: Reader, saver: Store) -> None:
    ask = question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "maxmemory", "1")
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    server.command("CONFIG", "SET", "maxmemory", "0")
    keep(saver, ask, b"new")


def test_a_server_that_takes_no_invalidation_is_not_read_by_who_knows(server: Server, saver: Store) -> None:
    """Its user may not write: what is saved stays pending, and its own process does not read what may be dead."""
    server.command("ACL", "SETUSER", "reads", "on", ">pw", "~*", "&*", "+@all", "-eval", "-evalsha", "-del")
    ask = question()
    keep(saver, ask, OLD)
    mute = Store(Address((f"redis://reads:pw@127.0.0.1:{server.port}/0",)), "site")
    mute.connections.recovering.append(lambda: mute.stamp([ARTICLE]))
    assert found(mute, ask).answer.body == OLD
    with pytest.raises(Unavailable):
        mute.stamp([ARTICLE])
    with pytest.raises(Unavailable):
        look(mute, ask)
    server.command("ACL", "SETUSER", "reads", "+eval", "+evalsha", "+del")
    back(mute)
    assert look(mute, ask).entry is None
    mute.close()
