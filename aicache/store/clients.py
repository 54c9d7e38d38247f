"""Clients of redis-py with timeouts of our own and no retries: one server, a sentinel's primary, or a cluster."""

from __future__ import annotations

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


def sync_client(address: Address, *, cluster: bool) -> Any:
    common = {
        **address.parameters(),
        "socket_timeout": BUDGET,
        "socket_connect_timeout": BUDGET,
        "retry": Retry(NoBackoff(), 0),
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


def async_client(address: Address, *, cluster: bool) -> Any:
    common = {
        **address.parameters(),
        "socket_timeout": None,  # who awaits counts the time, and knows a slow loop from a slow server
        "socket_connect_timeout": None,
        "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": UNBOUNDED,
    }
    if cluster:
        return redis.asyncio.cluster.RedisCluster(**_for_cluster(common, address))
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
    """A slot may have moved: its one new place is tried."""
    retry = type(common["retry"])(NoBackoff(), 1)
    return {name: value for name, value in common.items() if name != "db"} | {"retry": retry, "ssl": address.is_tls}


def _for_sentinel(address: Address) -> dict[str, Any]:
    theirs = dict(address.options.get("SENTINEL_KWARGS") or {})
    return {"sentinel_kwargs": {**theirs, "socket_timeout": BUDGET, "socket_connect_timeout": BUDGET}}
