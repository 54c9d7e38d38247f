"""The only place that talks to Redis: runs plans, blocking or awaiting, within a budget, and knows when not to."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import (
    ClusterCrossSlotError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from aicache.core.operations import Unavailable
from aicache.store.address import BUDGET, Address
from aicache.store.breaker import Breaker
from aicache.store.clients import async_client, is_cluster, sync_client
from aicache.store.line import Line, LineClosed
from aicache.store.scripts import Command, Plan

# Errors that say how to ask instead.
PLANNED: Final = (NoScriptError, MovedError, ClusterCrossSlotError)

logger = logging.getLogger("aicache.store")


class Connections:
    """Clients of our own to the alias's server: a pool for threads, a line for each event loop.

    No retries: trouble opens the breaker, and the call goes to upstream. Whatever goes wrong is Unavailable: an error
    of the cache is never the caller's.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.breaker = Breaker(self._probe, address.label)
        self.breaker.on_open.append(self._forget)
        self.is_cluster = address.is_cluster
        self._sync: Any = None
        self._lock = threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}

    def run(self, plan: Plan) -> Any:
        """The plan's result. Raises Unavailable."""
        self.breaker.check()
        try:
            return self._run(plan)
        except Exception as error:
            raise self._unavailable(error) from error

    async def arun(self, plan: Plan) -> Any:
        """As ``run``, for a task."""
        self.breaker.check()
        try:
            return await self._arun(plan)
        except Exception as error:
            raise self._unavailable(error) from error

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """A reply or a redis error for each, in one round trip. Raises Unavailable."""
        self.breaker.check()
        try:
            pipeline = self._client().pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        except Exception as error:
            raise self._unavailable(error) from error
        return replies

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

    def _run(self, plan: Plan) -> Any:
        try:
            command: Command = next(plan)
            while True:
                client = self._client()
                try:
                    reply = client.execute_command(*command)
                except PLANNED as error:
                    command = self._replan(plan, command, error, as_cluster=is_cluster(client))
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    async def _arun(self, plan: Plan) -> Any:
        try:
            command: Command = next(plan)
            while True:
                line = await self._line()
                try:
                    reply = await line.execute_command(*command)
                except LineClosed:
                    continue
                except PLANNED as error:
                    command = self._replan(plan, command, error, as_cluster=line.is_cluster)
                else:
                    command = plan.send(reply)
        except StopIteration as end:
            return end.value

    def _replan(self, plan: Plan, command: Command, error: ResponseError, *, as_cluster: bool) -> Command:
        """The command to go on with. Raises the error where it cannot be helped."""
        if isinstance(error, NoScriptError):
            return plan.throw(error)
        if as_cluster:
            raise error
        with self._lock:  # many may find it out in one instant
            first, self.is_cluster = not self.is_cluster, True
        if first:
            logger.warning("Redis at %s is a cluster, and is asked as one from now on", self.address.label)
            self._forget()
        return command if isinstance(error, MovedError) else plan.throw(error)

    def _unavailable(self, error: Exception) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, ResponseError):
            self.breaker.refused(error)
            if isinstance(error, ReadOnlyError):
                # A primary that was demoted: behind a fixed address, a new connection may reach its successor.
                self._forget()
            return Unavailable("refused")
        if not isinstance(error, ConnectionError | TimeoutError | OSError):
            logger.warning("Redis at %s answered what nobody expects", self.address.label, exc_info=error)
        self.breaker.trip(error)
        return Unavailable("unreachable")

    def _probe(self) -> None:
        client = sync_client(self.address, cluster=self.is_cluster)
        try:
            client.execute_command("PING")
        finally:
            client.close()

    def _forget(self) -> None:
        """Drops all connections: what they lead to may be gone, or be another server by now."""
        with self._lock:
            client, self._sync = self._sync, None
            lines = list(self._lines.values())
        if client is not None and not is_cluster(client):
            # Those in use are their users', in other threads, and are closed when they are given back to nobody.
            client.connection_pool.disconnect(inuse_connections=False)
        for line in lines:
            line.stale = True

    def _client(self) -> Any:
        with self._lock:
            if self._sync is None:
                self._sync = sync_client(self.address, cluster=self.is_cluster)
            return self._sync

    async def _line(self) -> Line:
        loop = asyncio.get_running_loop()
        with self._lock:
            held = self._lines.get(loop)
        if held is not None and not held.stale:
            return held
        line = Line(async_client(self.address, cluster=self.is_cluster), lambda: self._end(loop, line))
        with self._lock:
            self._lines[loop] = line  # before anything is awaited, so that no other task of the loop makes a third
            for ended in [known for known in self._lines if known.is_closed()]:
                del self._lines[ended]
        await line.open()
        if held is not None:
            await held.retire()
        return line

    def _end(self, loop: asyncio.AbstractEventLoop, line: Line) -> None:
        with self._lock:
            if self._lines.get(loop) is line:
                del self._lines[loop]
