"""The only place that talks to Redis: runs plans, blocking or awaiting, within a budget, and knows when not to."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
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
from aicache.store.keys import Keys
from aicache.store.line import Line, LineClosed
from aicache.store.links import Link
from aicache.store.scripts import Command, Plan

logger = logging.getLogger("aicache.store")

# What one server says that is asked like a single one, and is part of a cluster.
IS_CLUSTER: Final = (MovedError, ClusterCrossSlotError)

Make = Callable[[Keys, bool], Plan]
"""Makes a plan with the keys that are good on the connection it runs on; told whether it is a cluster."""


class Connections:
    """Clients of our own to the alias's server: a pool for threads, a line for each event loop.

    No retries: trouble opens the breaker, and the call goes to upstream. Whatever goes wrong is Unavailable: an error
    of the cache is never the caller's. ``recovering``: run before a server that was out of reach is used again, in the
    only thread that may use it by then; what one raises is that the time has not come.
    """

    def __init__(self, address: Address, site: str) -> None:
        self.address = address
        self.breaker = Breaker(self._probe, address.label)
        self.breaker.on_open.append(self._forget)
        self.recovering: list[Callable[[], None]] = []
        self._site = site
        self._cluster = address.is_cluster
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}

    def run(self, make: Make, *, saves: bool = False) -> Any:
        """The plan's result. Raises Unavailable. ``saves``: it makes known what died, and reads nothing."""
        self.breaker.check(saves=saves)
        try:
            return self._on_link(lambda link: _run(link, make))
        except Exception as error:
            raise self._unavailable(error) from error

    async def arun(self, make: Make) -> Any:
        """As ``run``, for a task."""
        self.breaker.check()
        try:
            while True:
                line = await self._line()
                try:
                    await line.opened()
                    return await _arun(line, make)
                except IS_CLUSTER:
                    self._found_cluster(line.is_cluster)
                except LineClosed:
                    self.breaker.check()
        except Exception as error:
            raise self._unavailable(error) from error

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """A reply or a redis error for each, in one round trip. Raises Unavailable."""
        self.breaker.check()
        try:
            replies: list[Any] = self._on_link(lambda link: _pipeline(link.client, commands))
        except Exception as error:
            raise self._unavailable(error) from error
        return replies

    def subscribe(self, channel: str) -> Any:
        """A subscription that stands, on a connection of its own. Raises redis errors."""
        pubsub = self._on_link(lambda link: link.client.pubsub())
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

    def _on_link(self, act: Callable[[Link], Any]) -> Any:
        while True:
            link = self._link or self._open()
            if link is None:
                continue
            try:
                if link.is_due():
                    link.check()
                return act(link)
            except IS_CLUSTER:
                self._found_cluster(link.is_cluster)

    def _open(self) -> Link | None:
        """The first caller's link, for all who come meanwhile; None where it is to be tried in another way."""
        with self._opening:
            if self._link is not None:
                return self._link
            self.breaker.check(saves=True)  # the one before may have failed
            link = Link(self.address, self._site, cluster=self._cluster)
            try:
                link.open()
            except IS_CLUSTER:
                self._found_cluster(link.is_cluster)
                return None
            except Exception as error:
                if not isinstance(error, ResponseError):
                    self.breaker.trip(error)
                raise
            self._link = link
            return link

    def _found_cluster(self, asked_as_one: bool) -> None:
        if asked_as_one:
            raise ConnectionError("the cluster does not know where its slots are")
        with self._lock:  # many may find it out in one instant
            first, self._cluster = not self._cluster, True
        if first:
            logger.warning("Redis at %s is a cluster, and is asked as one from now on", self.address.label)
        if first or (self._link is not None and not self._link.is_cluster):
            self._forget()

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
        self._forget()  # an earlier try may have left something
        self._on_link(lambda link: None)
        for recover in self.recovering:
            recover()

    def _forget(self) -> None:
        """Drops all connections: what they lead to may be gone, or be another server by now."""
        with self._lock:
            link, self._link = self._link, None
            lines = list(self._lines.values())
        if link is not None and not link.is_cluster:
            # Those in use are their users', in other threads, and are closed when they are given back to nobody.
            link.client.connection_pool.disconnect(inuse_connections=False)
        for line in lines:
            line.stale = True

    async def _line(self) -> Line:
        loop = asyncio.get_running_loop()
        with self._lock:
            held = self._lines.get(loop)
        if held is None or held.stale:
            link = Link(self.address, self._site, cluster=self._cluster, awaits=True)
            line = Line(link, lambda: self._end(loop, line))
            with self._lock:
                self._lines[loop] = line  # before anything is awaited, so that no other task of the loop makes a third
                for ended in [known for known in self._lines if known.is_closed()]:
                    del self._lines[ended]
            await line.open()
            if held is not None:
                await held.retire()
            held = line
        return held

    def _end(self, loop: asyncio.AbstractEventLoop, line: Line) -> None:
        with self._lock:
            if self._lines.get(loop) is line:
                del self._lines[loop]


def _run(link: Link, make: Make) -> Any:
    plan = make(link.keys, link.is_cluster)
    try:
        wanted = next(plan)
        while True:
            try:
                if isinstance(wanted, list):
                    reply = _whole(_pipeline(link.client, wanted))
                else:
                    reply = link.client.execute_command(*wanted)
            except NoScriptError as error:
                wanted = plan.throw(error)
            else:
                wanted = plan.send(reply)
    except StopIteration as end:
        link.settle()
        return end.value


async def _arun(line: Line, make: Make) -> Any:
    plan = make(line.keys, line.is_cluster)
    try:
        wanted = next(plan)
        while True:
            try:
                if isinstance(wanted, list):
                    # Asked in the same instant: they go out together.
                    replies = await asyncio.gather(
                        *(line.execute_command(*command) for command in wanted), return_exceptions=True
                    )
                    reply: Any = _whole(replies)
                else:
                    reply = await line.execute_command(*wanted)
            except NoScriptError as error:
                wanted = plan.throw(error)
            else:
                wanted = plan.send(reply)
    except StopIteration as end:
        line.settle()
        return end.value


def _pipeline(client: Any, commands: Sequence[Command]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies


def _whole(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return replies
