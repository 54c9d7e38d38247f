"""Servers, proxies and users that are not what one expects: never an error of the caller's, never a stale answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from aicache.core.operations import Capture, Finish, Lead, Look, Unavailable
from aicache.store import Address, Store
from tests.store.conftest import an_entry, keys_of
from tests.store.servers import Server, serving
from tests.store.tagged import ARTICLE, PRICES, keep, look, question


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


INFOS = {
    "nothing": b"$0\r\n\r\n",
    "nil": b"$-1\r\n",
    "a number": b":1\r\n",
    "a list": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "a word": b"+OK\r\n",
    "refusal": b"-ERR unknown command 'INFO'\r\n",
    "no text": b"$13\r\nrun_id:\xff\xfe\xfd\x00\r\n\r\n",
    "no lines": b"$7\r\nrun_id:\r\n",
    "colons": b"$20\r\n:::\r\n\r\nrun_id\r\n:\r\n::\r\n",
}


@contextmanager
def proxy(port: int, info: bytes) -> Iterator[int]:
    """Passes everything on, and answers INFO by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends: list[socket.socket] = []

        def serve(ours: socket.socket) -> None:
            theirs = socket.create_connection(("127.0.0.1", port))
            ends.append(theirs)

            def back() -> None:
                try:
                    while data := theirs.recv(65536):
                        ours.sendall(data)
                except OSError:
                    pass

            threading.Thread(target=back, daemon=True).start()
            try:
                while data := ours.recv(65536):
                    if (asked := data.count(b"$4\r\nINFO\r\n")) and data.startswith(b"*2\r\n$4\r\nINFO"):
                        ours.sendall(info * asked)
                    else:
                        theirs.sendall(data)
            except OSError:
                pass

        def accept() -> None:
            while True:
                try:
                    ours, _ = listener.accept()
                except OSError:
                    return
                ends.append(ours)
                threading.Thread(target=serve, args=(ours,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        for end in ends:
            end.close()


@pytest.mark.parametrize("info", INFOS)
def test_a_proxy_that_says_odd_things_of_itself_works(server: Server, info: str) -> None:
    with proxy(server.port, INFOS[info]) as port:
        store, ask = Store(Address((f"redis://127.0.0.1:{port}/0",)), "site"), question()
        keep(store, ask)
        assert asyncio.run(store.aperform(Look(ask))).entry is not None
        store.stamp([ARTICLE])
        assert look(store, ask).entry is None
        assert not store.connections.breaker.down
        store.close()


COMMANDS = ("exists", "mget", "eval", "evalsha", "publish", "subscribe", "info", "zadd", "spop", "zscan", "hget", "set")


@pytest.mark.parametrize("refused", COMMANDS)
def test_what_a_user_may_not_is_no_error_of_the_caller(server: Server, refused: str) -> None:
    server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", f"-{refused}")
    store, other = (Store(Address((f"redis://{user}127.0.0.1:{server.port}/0",)), "site") for user in ("app:pw@", ""))
    ask = question()
    keep(other, ask, b"old")

    def everything(tell: Any) -> None:
        stamps = other.perform(Capture(ask))
        acts = [
            lambda: tell(Look(ask)),
            lambda: tell(Capture(ask)),
            lambda: tell(Lead(ask, stamps, since=0, refresh=True)),
            lambda: tell(Finish(ask, stamps, "0" * 32, entry=an_entry(ask, stamps=stamps), keep=True, share=True)),
            lambda: store.counts([ARTICLE]),
            lambda: list(store.names()),
            lambda: store.reclaim(10),
            lambda: store.stamp([PRICES]),
        ]
        for act in acts:
            try:
                act()
            except Unavailable:
                continue

    everything(store.perform)
    everything(lambda operation: asyncio.run(store.aperform(operation)))
    try:
        store.stamp([ARTICLE])
    except Unavailable:  # it is pending: this process reads nothing until it is not
        with pytest.raises(Unavailable):
            look(store, ask)
    else:
        assert look(other, ask).entry is None
    store.close()
    other.close()


@pytest.mark.parametrize("name", ["dead", "names", "hanging", "lineage", "failed", "lease"])
def test_a_key_of_another_type_is_no_stale_answer(server: Server, name: str) -> None:
    store, ask = Store(Address((server.url,)), "site"), question()
    keep(store, ask, b"old")
    keys, stamps = keys_of(store), store.perform(Capture(ask))
    spoilt = {
        "dead": keys.dead,
        "names": keys.names,
        "hanging": keys.hanging(ARTICLE.digest),
        "lineage": keys.lineage(ask),
        "failed": keys.failed(ask),
        "lease": keys.lease(ask, stamps),
    }[name]
    server.command("DEL", spoilt)
    server.command("XADD" if name == "lineage" else "SET", spoilt, *(("*", "f", "v") if name == "lineage" else ("x",)))
    try:
        store.stamp([ARTICLE])
    except Unavailable:
        pass
    else:
        assert look(store, ask).entry is None
    other = Store(Address((server.url,)), "site")
    assert look(other, ask).entry is None
    for act in (lambda: store.reclaim(10), lambda: store.counts([ARTICLE]), lambda: list(store.names())):
        try:
            act()
        except Unavailable:
            continue
    store.close()
    other.close()


def test_a_replica_is_not_read(server: Server, tmp_path: Path) -> None:
    with serving(tmp_path / "replica") as replica:
        store, ask = Store(Address((server.url,)), "site"), question()
        keep(store, ask, b"old")
        replica.follow(server)
        with redis.Redis(port=server.port) as client:
            client.wait(1, 1000)
        late = Store(Address((replica.url,)), "site")
        for _ in range(3):
            with pytest.raises(Unavailable):
                look(late, ask)
            with pytest.raises(Unavailable):
                late.stamp([ARTICLE])
        store.close()
        late.close()
