"""The only place that talks to Redis: runs plans, blocking or awaiting, within a budget, and knows when not to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, Final

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

from aicache.core.operations import Unavailable
from aicache.store.address import BUDGET, Address
from aicache.store.breaker import Breaker
from aicache.store.clients import async_client, sync_client
from aicache.store.scripts import Command, Plan

UNREACHABLE: Final = (ConnectionError, TimeoutError, OSError, RedisClusterException)
# Errors that say how to ask instead.
PLANNED: Final = (NoScriptError, MovedError, ClusterCrossSlotError)

logger = logging.getLogger("aicache.store")


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
            return self._run(plan)
        except UNREACHABLE as error:
            raise self._lost(error) from error
        except ResponseError as error:
            raise self._refused(error) from error

    async def arun(self, plan: Plan) -> Any:
        """As ``run``, for a task."""
        self.breaker.check()
        try:
            return await self._arun(plan)
        except UNREACHABLE as error:
            raise self._lost(error) from error
        except ResponseError as error:
            raise self._refused(error) from error

    def _run(self, plan: Plan) -> Any:
        try:
            command: Command = next(plan)
            while True:
                as_cluster = self.is_cluster
                try:
                    reply = self._client().execute_command(*command)
                except PLANNED as error:
                    command = self._replan(plan, command, error, as_cluster)
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    async def _arun(self, plan: Plan) -> Any:
        try:
            command: Command = next(plan)
            while True:
                as_cluster = self.is_cluster
                try:
                    reply = await (await self._loop_client()).execute_command(*command)
                except PLANNED as error:
                    command = self._replan(plan, command, error, as_cluster)
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    def _replan(self, plan: Plan, command: Command, error: ResponseError, as_cluster: bool) -> Command:
        """The command to go on with. Raises the error where it cannot be helped."""
        if isinstance(error, NoScriptError):
            return plan.throw(error)
        if as_cluster:
            raise error
        if not self.is_cluster:  # which many may find out in one instant
            self.is_cluster = True
            logger.warning("Redis at %s is a cluster, and is asked as one from now on", self.address.label)
            self._forget()
        return command if isinstance(error, MovedError) else plan.throw(error)

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
        client = sync_client(self.address, cluster=self.is_cluster)
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

    def _client(self) -> Any:
        if self._sync is None:
            self._sync = sync_client(self.address, cluster=self.is_cluster)
        return self._sync

    async def _loop_client(self) -> _LoopClient:
        loop = asyncio.get_running_loop()
        held = self._loops.get(loop)
        if held is None or held.stale:
            old = held
            # Before anything is awaited, so that no other task of the loop makes a third.
            held = self._loops[loop] = _LoopClient(async_client(self.address, cluster=self.is_cluster))
            await anext(held.life)
            if old is not None:
                await old.retire()
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
            if self.stale:
                await self.retire()

    async def retire(self) -> None:
        """Closes it, once what is under way has its reply."""
        if self._sender is None:
            await self.life.aclose()

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
