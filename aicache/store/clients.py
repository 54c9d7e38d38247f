"""Clients of redis-py with timeouts of our own and no retries: one server, a sentinel's primary, or a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from aicache.store.address import BUDGET, Address

# As many as ask at once: a bound would be met by a busy process, and taken for an outage.
UNBOUNDED: Final = 2**31


def sync_client(address: Address, *, cluster: bool, on_connect: Callable[[Any], None]) -> Any:
    """``on_connect`` is run on each new connection, and does what a connection does at its beginning by itself."""
    common = {
        **address.parameters(),
        "socket_timeout": BUDGET,
        "socket_connect_timeout": BUDGET,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": on_connect,
        "protocol": 2,
        "max_connections": UNBOUNDED,
    }
    if cluster:
        return redis.cluster.RedisCluster(**_for_cluster(common, address))
    if address.sentinels:
        sentinel = redis.sentinel.Sentinel(address.sentinels, **_for_sentinel(address))
        return sentinel.master_for(common.pop("host"), ssl=address.is_tls, **common)
    connection_class = redis.connection.parse_url(address.urls[0]).get("connection_class", redis.Connection)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=connection_class, **common))


def async_client(address: Address, *, cluster: bool, on_connect: Callable[[Any], Awaitable[None]]) -> Any:
    common = {
        **address.parameters(),
        "socket_timeout": None,  # who awaits counts the time, and knows a slow loop from a slow server
        "socket_connect_timeout": None,
        "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        "redis_connect_func": on_connect,
        "protocol": 2,
        "max_connections": UNBOUNDED,
    }
    if cluster:
        chosen = _for_cluster(common, address)
        del chosen["redis_connect_func"]  # it has no such parameter, and hands everything of this on
        client = redis.asyncio.cluster.RedisCluster(**chosen)
        for made in (
            client.connection_kwargs,
            *(n.connection_kwargs for n in client.nodes_manager.startup_nodes.values()),
        ):
            made["redis_connect_func"] = on_connect
        return client
    if address.sentinels:
        sentinel = redis.asyncio.sentinel.Sentinel(address.sentinels, **_for_sentinel(address))
        return sentinel.master_for(common.pop("host"), ssl=address.is_tls, **common)
    connection_class = redis.asyncio.connection.parse_url(address.urls[0]).get(
        "connection_class", redis.asyncio.Connection
    )
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(connection_class=connection_class, **common))


async def aclose(client: Any) -> None:
    """Closes an async client and, which it does not do by itself, the clients that asked its sentinels."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for asked in manager.sentinels if manager is not None else ():
        await asked.aclose()


def is_cluster(client: Any) -> bool:
    return isinstance(client, redis.cluster.RedisCluster | redis.asyncio.cluster.RedisCluster)


def _for_cluster(common: dict[str, Any], address: Address) -> dict[str, Any]:
    """A slot that has moved is followed. Trouble is not: what took a node's place may remember less."""
    return {name: value for name, value in common.items() if name != "db"} | {"ssl": address.is_tls}


def _for_sentinel(address: Address) -> dict[str, Any]:
    theirs = dict(address.options.get("SENTINEL_KWARGS") or {})
    return {"sentinel_kwargs": {**theirs, "socket_timeout": BUDGET, "socket_connect_timeout": BUDGET}}
