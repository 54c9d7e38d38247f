"""A real Valkey cluster of three primaries, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
        join([node.port for node in nodes])
        yield nodes


def join(ports: Sequence[int], replicas: int = 0, meanwhile: Callable[[], object] | None = None) -> None:
    """Makes a cluster of servers; the last of them, as many as are said, own no slots.

    ``meanwhile``: done as soon as they know each other. It takes two seconds more until they serve.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis(port=port)) for port in ports]
        share = SLOTS // NODES
        for at, client in enumerate(clients[: len(clients) - replicas]):
            last = SLOTS - 1 if at == NODES - 1 else (at + 1) * share - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", at * share, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for port, client in zip(ports[1:], clients[1:], strict=True):
            bus = client.config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        deadline = time.monotonic() + 30
        acquainted = (b"cluster_slots_ok:16384", f"cluster_known_nodes:{len(ports)}\r".encode())
        for wanted in (acquainted, (*acquainted, b"cluster_state:ok")):
            while not all(_says(client, wanted) for client in clients):
                if time.monotonic() > deadline:
                    raise TimeoutError("the cluster did not come up")
                time.sleep(0.02)
            if meanwhile is not None:
                meanwhile()
                meanwhile = None


def _says(client: redis.Redis, wanted: Sequence[bytes]) -> bool:
    told: bytes = client.execute_command("CLUSTER", "INFO")
    return all(word in told for word in wanted)
