"""The rights that docs/operations.md asks for are enough for everything, and are no more than it says."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from aicache.core.live import Live
from aicache.core.operations import Finish, Lead, Look, Unavailable, Wait
from aicache.core.records import Failure
from aicache.core.streaming import Check, Leave, Outgrow, Share, Unfollow
from aicache.core.tags import hanging
from aicache.core.turns import Held, News
from aicache.store import Address, Store, ear, links
from aicache.store.tags import one
from tests.store.cluster import cluster
from tests.store.conftest import names_of
from tests.store.servers import Server, serving, until
from tests.store.tagged import ARTICLE, PRICES, TENANT, end, keep, lead, look, question
from tests.store.test_epochs import BINARIES

RIGHTS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().split("### Rights")[1].split("\n## ")[0]
PASSWORD = "pw"


def the_line() -> str:
    """The user as the docs make it, without the words in front of its name."""
    (line,) = re.findall(r"^ACL SETUSER (app .*)$", RIGHTS, re.MULTILINE)
    return line.replace(">…", f">{PASSWORD}")


def documented() -> set[str]:
    """The commands that the docs name, from the sentence about them."""
    said = RIGHTS.split("```")[0]
    return {word.lower() for word in re.findall(r"`([A-Z]+)`", said)}


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Its user is there again when it is started anew."""
    with serving(tmp_path / "server", BINARIES[request.param], user=the_line()) as server:
        yield server


def joining(server: Server) -> Store:
    return Store(Address((f"redis://app:{PASSWORD}@127.0.0.1:{server.port}/0",)), "site")


def everything(store: Store, other: Store, meanwhile: Callable[[], Any] = lambda: None) -> None:
    """All that a site asks of Redis. Raises Unavailable where a part of it is refused.

    ``meanwhile``: done while somebody waits.
    """
    ask = question()
    assert store.is_on()
    store.switch(False)
    assert not look(store, ask).enabled
    store.switch(True)
    keep(store, ask)  # a miss
    assert asyncio.run(store.aperform(Look(ask))).entry is not None  # a hit
    store.stamp([ARTICLE])
    assert look(store, ask).reason == "invalidated:article:17"
    assert store.counts([ARTICLE, PRICES]) == [0, 1]
    assert {tag for tag, _ in store.names()} == set(ask.tags)
    assert store.reclaim(100) == (1, True)
    for at in range(200):  # more than is noted in one piece, so that it is freed in several
        keep(store, question(str(at)))
    store.stamp([PRICES])
    assert store.reclaim(10)[1] is False
    store.connections.run(lambda keys, _: one("ZADD", keys.names, 1, "of long ago"))
    keep(store, question("forgets the old", tags=hanging(["other"], TENANT)))

    stamps, token = lead(store, ask)
    held = other.perform(Lead(ask, stamps, since=0, refresh=True))
    assert isinstance(held, Held)
    heard: list[Any] = []
    waiter = threading.Thread(target=lambda: heard.append(other.perform(Wait(ask, held.token, 20))))
    waiter.start()
    meanwhile()
    assert store._renew([(names_of(store, ask, stamps), token)]) == [True]
    assert end(store, ask, stamps, token, b"told")
    waiter.join(20)
    assert heard[0].answer.body == b"told"

    failing = question("fails")
    stamps, token = lead(store, failing)
    failure = Failure("status", 500, (), b"{}", 0)
    assert store.perform(Finish(failing, stamps, token, failure=failure))
    assert isinstance(store.perform(Lead(failing, stamps, since=60)), Failure)
    streaming(store, other)


def streaming(store: Store, other: Store) -> None:
    """One reads what the other reads; then one more is too late for that, and in the end nobody reads."""
    ask = question("streams", streams=True, live=True)
    stamps, token = lead(store, ask)
    live = store.perform(Share(ask, stamps, token, aloud=True))
    live.open((), 1000)
    assert isinstance(other.perform(Lead(ask, stamps, since=0, refresh=True)), Held)
    live.feed(b"first")
    there = other.perform(Wait(ask, token, 20, stamps))
    assert isinstance(there, Live)
    other.perform(Check(ask, stamps, token, there))
    assert there.take(there.start) == b"first"
    assert store.perform(Leave(ask, stamps, token))
    other.perform(Unfollow(ask, stamps, token, there))
    live.feed(b"x" * 1000)
    store.perform(Outgrow(ask, stamps, token))
    until(lambda: other.perform(Lead(ask, stamps, since=0, refresh=True, waits=False)) is News.NOT_SHARED)
    assert not store.perform(Leave(ask, stamps, token))


def refused(server: Server) -> list[str]:
    """What the server did not allow, what a script asked for included."""
    with redis.Redis(port=server.port) as client:
        return [f"{entry['reason']}: {entry['object']}" for entry in client.acl_log()]


def test_they_are_enough_for_everything(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(links, "CHECK_EVERY", 0.0)
    server.command("CONFIG", "RESETSTAT")
    store, other = joining(server), joining(server)
    everything(store, other, lambda: until(lambda: "ping" in used(server)))
    assert other.ear.listening
    other.close()
    store.close()

    assert refused(server) == []
    of_connections = {"auth", "client", "hello", "select"}
    asked = used(server) - {"acl", "config"} - of_connections
    assert asked == documented() - of_connections


def used(server: Server) -> set[str]:
    told = server.command("INFO", "commandstats")
    return {name.removeprefix("cmdstat_").split("|")[0] for name in told}


def test_a_snapshot_is_noticed_with_them(server: Server) -> None:
    store, ask = joining(server), question()
    keep(store, ask, b"made from the old row")
    server.save()
    store.stamp([ARTICLE])
    server.go_back()
    assert any(b":e:" in key for key in server.command("KEYS", "*"))  # it has it, truly

    fresh = joining(server)
    for asked in (store, fresh):
        for _ in range(20):
            assert served(asked, ask) is None
        until(lambda asked=asked: not asked.connections.breaker.down)
        assert served(asked, ask) is None
        asked.close()


def served(store: Store, ask: Any) -> Any:
    try:
        return look(store, ask).entry
    except Unavailable:
        return None


@pytest.mark.parametrize(
    "command", [("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("GET", "session:1"), ("SHUTDOWN",)]
)
def test_they_are_no_more_than_is_needed(server: Server, command: tuple[str, ...]) -> None:
    with redis.Redis(port=server.port, username="app", password=PASSWORD) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


def test_they_are_enough_on_a_cluster() -> None:
    on_a_cluster = re.search(r"`(\+cluster\S*)`", RIGHTS)
    assert on_a_cluster is not None
    with cluster() as nodes:
        clients = [redis.Redis(port=node.port) for node in nodes]
        for client in clients:
            client.execute_command("ACL", "SETUSER", *the_line().split(), on_a_cluster[1])
        url = f"redis://app:{PASSWORD}@127.0.0.1:{nodes[0].port}/0"
        address = Address((url,), {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"})
        store, other = Store(address, "site"), Store(address, "site")
        everything(store, other)
        other.close()
        store.close()
        assert [entry["object"] for client in clients for entry in client.acl_log()] == []
        for client in clients:
            client.close()
