"""A replica that had not heard of an invalidation and takes over serves no answer that died of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aicache.core.operations import Unavailable
from aicache.store import Address, Store, links
from tests.store.servers import Server, serving, until
from tests.store.tagged import ARTICLE, keep, look, question
from tests.store.test_epochs import OLD, Reader, back, binary, dead_for_good, keep_on, reader, saver, server

pytestmark = pytest.mark.slow

__all__ = ["binary", "reader", "saver", "server"]


@pytest.fixture
def replica(server: Server, binary: str, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "replica", binary) as replica:
        replica.follow(server)
        yield replica


def swap(primary: Server, replica: Server) -> None:
    """The replica takes the primary's place, port and all, with what it knows: it missed what was said last."""
    primary.kill()
    replica.wake()
    replica.save()
    replica.kill()
    replica.port, primary.port = primary.port, replica.port


def test_a_replica_that_lagged_and_takes_over_brings_nothing_back(
    server: Server, replica: Server, reader: Reader, saver: Store
) -> None:
    ask = question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    server.lag(replica)
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    swap(server, replica)
    replica.start()

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"new")
    assert reader.look(ask) == b"new"


class Forwarder:
    """A fixed address behind which servers change, as a virtual address or a proxy does; what is connected stays so."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.to = 0
        self._pairs: list[Any] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self._pairs += [ours, theirs]
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source: Any, sink: Any) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        for end in (self._listener, *self._pairs):
            end.close()


@pytest.fixture
def forwarder(server: Server) -> Iterator[Forwarder]:
    forwarder = Forwarder()
    forwarder.to = server.port
    yield forwarder
    forwarder.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_behind_a_fixed_address_and_back_again(
    server: Server, replica: Server, forwarder: Forwarder, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody breaks a connection: the former primary is made a replica, and a primary again."""
    monkeypatch.setattr(links, "CHECK_EVERY", 0.0)
    address = Address((f"redis://127.0.0.1:{forwarder.port}/0",))
    reader, saver, ask = Reader(address, colour), Store(address, "site"), question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    server.lag(replica)
    saver.stamp([ARTICLE])
    server.hang()
    replica.wake()
    replica.command("REPLICAOF", "NO", "ONE")
    server.wake()
    forwarder.to = replica.port
    server.follow(replica)  # fails over

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"while the replica was at it")
    until(lambda: reader.look(ask) == b"while the replica was at it")
    replica.lag(server)
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    replica.hang()
    server.wake()
    server.follow(None)
    replica.wake()
    forwarder.to = server.port
    replica.follow(server)  # and back

    for _ in range(50):
        assert reader.look(ask) not in (OLD, b"while the replica was at it")
    keep_on(saver, ask, b"new")
    until(lambda: reader.look(ask) == b"new")
    reader.close()
    saver.close()


def test_a_first_replica_makes_strangers_of_nobody(
    server: Server, replica: Server, binary: str, tmp_path: Path
) -> None:
    """A server changes its replication id when its first replica comes: who connects before and after still agree."""
    with serving(tmp_path / "alone", binary) as alone, serving(tmp_path / "second", binary) as second:
        before, ask = Store(Address((alone.url,)), "site"), question()
        keep(before, ask, OLD)
        second.follow(alone)
        after = Store(Address((alone.url,)), "site")
        keep(after, ask, b"new")
        for saver, others in ((before, after), (after, before)):
            keep_on(others, ask, b"theirs")
            try:
                saver.stamp([ARTICLE])
            except Unavailable:
                back(saver)
                saver.stamp([ARTICLE])
            assert look(others, ask).entry is None
        before.close()
        after.close()
