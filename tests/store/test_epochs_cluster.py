"""On a cluster, the node that has the stamps says what is fresh: another memory in its place brings nothing back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.cluster

from aicache.core.operations import Unavailable
from aicache.store import Address, Store
from aicache.store.keys import switch_key
from aicache.testing.valkey import free_port
from tests.store.cluster import NODES, join
from tests.store.servers import Server, until
from tests.store.tagged import ARTICLE, keep, look, question
from tests.store.test_epochs import OLD, Reader, dead_for_good, keep_on

pytestmark = pytest.mark.slow


class Cluster:
    """Three primaries, and one replica of that which has the stamps."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.nodes = []
        for at in range(NODES + 1):
            options = {
                "cluster-enabled": "yes",
                "cluster-node-timeout": 1000,
                "cluster-port": free_port(),
                "cluster-replica-validity-factor": 0,
                "cluster-require-full-coverage": "no",
            }
            node = Server(directory / str(at), **options).start()
            stack.callback(node.kill)
            self.nodes.append(node)
        self.replica = self.nodes[-1]
        join([node.port for node in self.nodes], replicas=1, meanwhile=self._replicate)
        until(lambda: b"master_link_status:up" in self.replica.command_text("INFO", "replication"))

    def _replicate(self) -> None:
        self.replica.command("CLUSTER", "REPLICATE", self.owner.command("CLUSTER", "MYID"))

    @property
    def primaries(self) -> list[Server]:
        """As long as nobody has taken over."""
        return [node for node in self.nodes if node is not self.replica]

    @property
    def owner(self) -> Server:
        """Of the stamps, as the first node that answers says."""
        with redis.Redis(port=self._alive().port) as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", switch_key("site"))
            ranges = client.execute_command("CLUSTER", "SLOTS")
        for shard in ranges.items() if isinstance(ranges, dict) else ranges:
            (first, last), port = _shard(shard)
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(slot)

    def _alive(self) -> Server:
        return next(node for node in self.nodes if node._process is not None)

    @property
    def address(self) -> Address:
        return Address((self.primaries[0].url,), {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"})

    def settled(self) -> bool:
        return all(b"cluster_state:ok" in node.command_text("CLUSTER", "INFO") for node in self.nodes)


def _shard(told: Any) -> tuple[tuple[int, int], int]:
    """One of CLUSTER SLOTS, however it is parsed."""
    if isinstance(told[0], tuple):
        return told[0], told[1]["primary"][1]
    return (told[0], told[1]), told[2][1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


@pytest.fixture(scope="module")
def _unharmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture
def unharmed(_unharmed: Cluster) -> Cluster:
    """Empty, for those who kill and replace nobody."""
    for node in _unharmed.primaries:
        node.command("FLUSHALL")
    return _unharmed


@pytest.fixture(params=["sync", "async"])
def reader(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Reader]:
    reader = Reader(cluster.address, request.param)
    yield reader
    reader.close()


@pytest.fixture
def saver(cluster: Cluster) -> Iterator[Store]:
    store = Store(cluster.address, "site")
    yield store
    store.close()


def test_the_node_with_the_stamps_restarts_from_an_old_snapshot(cluster: Cluster, reader: Reader, saver: Store) -> None:
    asks = [question(str(at)) for at in range(12)]  # on all nodes
    for ask in asks:
        keep(saver, ask, OLD)
    assert [reader.look(ask) for ask in asks] == [OLD] * len(asks)
    owner = cluster.owner
    cluster.replica.kill()  # nobody takes its place
    owner.save()
    saver.stamp([ARTICLE])
    assert [reader.look(ask) for ask in asks] == [None] * len(asks)
    owner.go_back()
    assert any(b":s:" in key for key in owner.command("KEYS", "*"))

    for ask in asks:
        dead_for_good(reader, ask)
    for ask in asks:
        keep_on(saver, ask, b"new")
    for ask in asks:
        until(lambda ask=ask: reader.look(ask) == b"new")  # type: ignore[misc]


def test_a_replica_that_lagged_takes_over(cluster: Cluster, reader: Reader, saver: Store) -> None:
    ask = question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    owner, replica = cluster.owner, cluster.replica
    owner.lag(replica)
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    owner.kill()
    replica.wake()
    replica.command("CLUSTER", "FAILOVER", "TAKEOVER")
    until(lambda: cluster.owner is replica)

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"new")
    until(lambda: reader.look(ask) == b"new")


def test_a_failover_in_which_no_connection_breaks_and_back(cluster: Cluster, reader: Reader, saver: Store) -> None:
    """The former owner sends everybody on, to one that may know less; what is kept there is good there alone."""
    ask = question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    owner, replica = cluster.owner, cluster.replica
    owner.lag(replica)
    saver.stamp([ARTICLE])
    owner.hang()  # what it said last never arrives
    replica.wake()
    replica.command("CLUSTER", "FAILOVER", "TAKEOVER")
    until(lambda: b"role:master" in replica.command_text("INFO", "replication"))
    owner.wake()
    until(lambda: b"role:slave" in owner.command_text("INFO", "replication"), "it did not give way")

    dead_for_good(reader, ask)
    keep_on(saver, ask, b"of the second")
    until(lambda: reader.look(ask) == b"of the second")
    until(lambda: b"master_link_status:up" in owner.command_text("INFO", "replication"))
    other = Store(cluster.address, "site")
    keep_on(other, ask, b"of the second")
    owner.command("CLUSTER", "FAILOVER")
    until(lambda: cluster.owner is owner)
    keep_on(other, ask, b"of the first again")
    try:
        other.stamp([ARTICLE])
    except Unavailable:
        until(lambda: not other.connections.breaker.down)
        other.stamp([ARTICLE])
    for _ in range(20):
        assert reader.look(ask) is None
    other.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_slot_of_the_stamps_moves_to_another_node(unharmed: Cluster, colour: str) -> None:
    cluster, reader, saver = unharmed, Reader(unharmed.address, colour), Store(unharmed.address, "site")
    ask = question()
    keep(saver, ask, OLD)
    assert reader.look(ask) == OLD
    source = cluster.owner
    target = next(node for node in cluster.nodes if node not in (source, cluster.replica))
    move(source, target, source.command("CLUSTER", "KEYSLOT", switch_key("site")), cluster.nodes)

    keep_on(saver, ask, b"new")
    until(lambda: reader.look(ask) == b"new")
    saver.stamp([ARTICLE])
    assert reader.look(ask) is None
    assert look(saver, ask).entry is None
    reader.close()
    saver.close()


def move(source: Server, target: Server, slot: int, nodes: list[Server]) -> None:
    names = {node: node.command("CLUSTER", "MYID").decode() for node in (source, target)}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *nodes):
        with suppress(redis.ResponseError):  # a replica is told by its primary
            node.command("CLUSTER", "SETSLOT", slot, "NODE", names[target])


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_every_connection_to_every_node_is_met(unharmed: Cluster, colour: str) -> None:
    cluster, reader = unharmed, Reader(unharmed.address, colour)
    met: list[str] = []
    lines = [question(str(at)) for at in range(30)]
    from aicache.store import links

    original = links.Link._compare
    try:
        links.Link._compare = lambda self, place, answers: (met.append(place), original(self, place, answers))[1]  # type: ignore[method-assign,assign,func-returns-value]
        for ask in lines:
            reader.look(ask)
    finally:
        links.Link._compare = original  # type: ignore[method-assign]
    primaries = {f"127.0.0.1:{node.port}" for node in cluster.primaries}
    assert set(met) >= primaries
    if colour == "sync":
        link = reader.store.connections._link
    else:
        (line,) = reader.store.connections._lines.values()
        link = line._link
    assert link is not None
    assert link._place in primaries
    assert link._place == f"127.0.0.1:{cluster.owner.port}"
    reader.close()


def test_a_hit_is_two_commands_at_once(unharmed: Cluster) -> None:
    cluster, saver, ask = unharmed, Store(unharmed.address, "site"), question()
    keep(saver, ask, OLD)
    before = [node.command("INFO", "commandstats") for node in cluster.nodes]
    for _ in range(10):
        assert look(saver, ask).entry is not None
    after = [node.command("INFO", "commandstats") for node in cluster.nodes]
    calls = [
        now.get("cmdstat_mget", {}).get("calls", 0) - then.get("cmdstat_mget", {}).get("calls", 0)
        for then, now in zip(before, after, strict=True)
    ]
    assert sum(calls) == 20
    assert sorted(calls)[:-2] == [0] * (len(calls) - 2)
    saver.close()
