"""The only place that talks to Redis: runs plans, blocking or awaiting, within a budget, and knows when not to."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterCrossSlotError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from aicache.core.operations import Unavailable
from aicache.store.address import BUDGET, Address
from aicache.store.breaker import Breaker
from aicache.store.scripts import Command, Plan

UNREACHABLE: Final = (ConnectionError, TimeoutError, OSError, RedisClusterException)
IS_CLUSTER: Final = (MovedError, ClusterCrossSlotError)


class Connections:
    """Clients of our own to the alias's server: a pool for threads, a connection for each event loop.

    No retries: trouble opens the breaker, and the call goes to upstream.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.breaker = Breaker(self._probe, address.label)
        self.breaker.on_open.append(self._forget)
        self.is_cluster = address.is_cluster
        self._sync: Any = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = weakref.WeakKeyDictionary()

    def run(self, plan: Plan) -> Any:
        """The plan's result. Raises Unavailable."""
        self.breaker.check()
        try:
            return self._run(plan, self._client())
        except IS_CLUSTER as error:
            self._turn_to_cluster(error)
            raise Unavailable("unreachable") from error
        except UNREACHABLE as error:
            raise self._lost(error) from error
        except ResponseError as error:
            raise self._refused(error) from error

    async def arun(self, plan: Plan) -> Any:
        """As ``run``, for a task."""
        self.breaker.check()
        try:
            return await self._arun(plan, await self._loop_client())
        except IS_CLUSTER as error:
            self._turn_to_cluster(error)
            raise Unavailable("unreachable") from error
        except UNREACHABLE as error:
            raise self._lost(error) from error
        except ResponseError as error:
            raise self._refused(error) from error

    @staticmethod
    def _run(plan: Plan, client: Any) -> Any:
        try:
            command: Command = next(plan)
            while True:
                try:
                    reply = client.execute_command(*command)
                except NoScriptError as error:
                    command = plan.throw(error)
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    @staticmethod
    async def _arun(plan: Plan, client: Any) -> Any:
        try:
            command: Command = next(plan)
            while True:
                try:
                    reply = await client.execute_command(*command)
                except NoScriptError as error:
                    command = plan.throw(error)
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    def subscribe(self, channel: str) -> Any:
        """A subscription that stands, on a connection of its own. Raises redis errors."""
        pubsub = self._client().pubsub()
        try:
            pubsub.subscribe(channel)
            if pubsub.get_message(timeout=BUDGET) is None:
                raise TimeoutError("no answer to SUBSCRIBE")
        except BaseException:
            pubsub.close()
            raise
        return pubsub

    def close(self) -> None:
        self.breaker.give_up()
        self._forget()

    def _lost(self, error: BaseException) -> Unavailable:
        self.breaker.trip(error)
        return Unavailable("unreachable")

    def _refused(self, error: ResponseError) -> Unavailable:
        self.breaker.refused(error)
        if isinstance(error, ReadOnlyError):
            # A primary that was demoted: behind a fixed address, a new connection may reach its successor.
            self._forget()
        return Unavailable("refused")

    def _probe(self) -> None:
        client = _client(self.address, cluster=self.is_cluster)
        try:
            client.execute_command("PING")
        finally:
            client.close()

    def _forget(self) -> None:
        """Drops all connections: what they lead to may be gone, or be another server by now."""
        client, self._sync = self._sync, None
        if client is not None and not self.is_cluster:
            # Those in use are their users', in other threads, and are closed when they are given back to nobody.
            client.connection_pool.disconnect(inuse_connections=False)
        for loop_client in list(self._loops.values()):
            loop_client.stale = True

    def _turn_to_cluster(self, error: BaseException) -> None:
        if not self.is_cluster:
            self.is_cluster = True
            self.breaker.refused(error)
            self._forget()

    def _client(self) -> Any:
        if self._sync is None:
            self._sync = _client(self.address, cluster=self.is_cluster)
        return self._sync

    async def _loop_client(self) -> _LoopClient:
        loop = asyncio.get_running_loop()
        held = self._loops.get(loop)
        if held is None or held.stale:
            if held is not None:
                with contextlib.suppress(*UNREACHABLE):
                    await held.life.aclose()
            client = _async_client(self.address, cluster=self.is_cluster)
            held = self._loops[loop] = _LoopClient(client)
            await anext(held.life)
        return held


class _LoopClient:
    """One connection for all tasks of a loop: what they ask in the same instant goes out together.

    It is closed with its loop: ``asyncio.run`` closes the loop's asynchronous generators, so ``life`` is one.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.stale = False
        self.life = self._live()
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def execute_command(self, *command: Any) -> Any:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, reply))
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        return await reply

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for (_, future), reply in zip(batch, await self._exchange(batch), strict=True):
                    if future.done():  # its task was cancelled
                        continue
                    if isinstance(reply, BaseException):
                        future.set_exception(reply)
                    else:
                        future.set_result(reply)
        finally:
            self._sender = None

    async def _exchange(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> list[Any]:
        """A reply or an error for each."""
        try:
            if len(batch) == 1:
                return [await within_budget(self.client.execute_command(*batch[0][0]))]
            pipeline = self.client.pipeline(transaction=False)
            for command, _ in batch:
                pipeline.execute_command(*command)
            replies: list[Any] = await within_budget(pipeline.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            return [error] * len(batch)
        return replies

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with contextlib.suppress(*UNREACHABLE):
                await self.client.aclose()


# In how many ticks a budget is counted. A loop that is too busy to keep a tick is charged for one tick all the same: it
# was not Redis that was slow, and the reply may lie there unread.
TICKS: Final = 10


async def within_budget(reply: Awaitable[Any]) -> Any:
    """Awaits a reply for BUDGET seconds of the loop's own running. Raises redis's TimeoutError."""
    task = asyncio.ensure_future(reply)
    try:
        for _ in range(TICKS):
            done, _pending = await asyncio.wait({task}, timeout=BUDGET / TICKS)
            if done:
                return task.result()
        raise TimeoutError(f"no answer within {BUDGET} s")
    finally:
        if not task.done():
            task.cancel()


def _client(address: Address, *, cluster: bool) -> Any:
    common = {
        **address.parameters(),
        "socket_timeout": BUDGET,
        "socket_connect_timeout": BUDGET,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if cluster:
        return redis.cluster.RedisCluster(**_for_cluster(common), cluster_error_retry_attempts=1)
    if address.sentinels:
        sentinel = redis.sentinel.Sentinel(address.sentinels, **_for_sentinel(address))
        return sentinel.master_for(common.pop("host"), **common)
    connection_class = redis.connection.parse_url(address.urls[0]).get("connection_class", redis.Connection)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=connection_class, **common))


def _async_client(address: Address, *, cluster: bool) -> Any:
    common = {
        **address.parameters(),
        "socket_timeout": None,  # within_budget, which knows a slow loop from a slow server
        "socket_connect_timeout": None,
        "retry": redis.asyncio.retry.Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if cluster:
        return redis.asyncio.cluster.RedisCluster(**_for_cluster(common), cluster_error_retry_attempts=1)
    if address.sentinels:
        sentinel = redis.asyncio.sentinel.Sentinel(address.sentinels, **_for_sentinel(address))
        return sentinel.master_for(common.pop("host"), **common)
    connection_class = redis.asyncio.connection.parse_url(address.urls[0]).get(
        "connection_class", redis.asyncio.Connection
    )
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(connection_class=connection_class, **common))


def _for_cluster(common: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in common.items() if name not in ("db", "retry")}


def _for_sentinel(address: Address) -> dict[str, Any]:
    theirs = dict(address.options.get("SENTINEL_KWARGS") or {})
    return {"sentinel_kwargs": {**theirs, "socket_timeout": BUDGET, "socket_connect_timeout": BUDGET}}
