"""A real Valkey cluster of three primaries, on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import redis

from aicache.testing.valkey import Valkey, free_port

SLOTS = 16384
NODES = 3


@contextmanager
def cluster() -> Iterator[list[Valkey]]:
    """The nodes, once each knows that all slots are served."""
    with ExitStack() as stack:
        # The bus's usual port is 10,000 above the node's, which may be no port at all.
        options = {"cluster-enabled": "yes", "cluster-node-timeout": 2000}
        nodes = [stack.enter_context(Valkey(**options, **{"cluster-port": free_port()})) for _ in range(NODES)]
        clients = [stack.enter_context(redis.Redis(port=node.port)) for node in nodes]
        share = SLOTS // NODES
        for at, client in enumerate(clients):
            last = SLOTS - 1 if at == NODES - 1 else (at + 1) * share - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", at * share, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for node, client in zip(nodes[1:], clients[1:], strict=True):
            bus = client.config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        deadline = time.monotonic() + 30
        while not all(_agrees(client) for client in clients):
            if time.monotonic() > deadline:
                raise TimeoutError("the cluster did not come up")
            time.sleep(0.05)
        yield nodes


def _agrees(client: redis.Redis) -> bool:
    told: bytes = client.execute_command("CLUSTER", "INFO")
    return all(word in told for word in (b"cluster_state:ok", b"cluster_slots_ok:16384", b"cluster_known_nodes:3"))
