"""How the tasks of one event loop talk to Redis: over one connection, what they ask in the same instant together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from aicache.store.address import BUDGET
from aicache.store.clients import aclose
from aicache.store.keys import Keys
from aicache.store.links import Link
from aicache.store.scripts import Command

# One exchange must fit the budget on a healthy server, however many ask at once and however much they send.
MOST_COMMANDS: Final = 64
MOST_BYTES: Final = 1024 * 1024

ENDING: Final = ConnectionError("the event loop is ending")

Asked = tuple[Command, asyncio.Future[Any]]


class LineClosed(Exception):
    """The line was given up before the command was sent; another one will do."""


class Line:
    """Exchanges commands for replies in batches; a batch waits for the one before it.

    It is closed with its loop: ``asyncio.run`` closes the loop's asynchronous generators, so its life is one.
    Every future is resolved, whatever becomes of the loop, the server or the client.
    """

    def __init__(self, link: Link, ended: Callable[[], None]) -> None:
        self.client = link.client
        self.is_cluster = link.is_cluster
        self.stale = False
        self._link = link
        self._opening: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._ended = ended
        self._closed = False
        self._life = self._live()
        self._waiting: list[Asked] = []
        self._sender: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Registers with the loop. Connections are made at first use."""
        await anext(self._life)

    @property
    def keys(self) -> Keys:
        """Those that are good on this line, once it is opened."""
        return self._link.keys

    async def opened(self) -> None:
        """The server is known. Raises what it says, and asks it anew next time; LineClosed where it was given up."""
        if self._closed:
            raise LineClosed
        if (opening := self._opening) is None:
            opening = self._opening = asyncio.ensure_future(within_budget(self._link.aopen()))
            opening.add_done_callback(self._was_opened)
        if not opening.done():
            await asyncio.wait({opening})  # a caller who is cancelled does not cancel it for the others
        if opening.cancelled():
            raise LineClosed if self.stale else ENDING
        opening.result()
        if self._link.is_due():
            await within_budget(self._link.acheck())

    def _was_opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self._opening = None

    def settle(self) -> None:
        """After each plan: raises Displaced where its answers may be another server's."""
        self._link.settle()

    async def execute_command(self, *command: Any) -> Any:
        """The reply. Raises what it says, LineClosed where nothing was sent."""
        if self._closed:
            raise LineClosed
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, reply))
        self._start()
        return await reply

    async def retire(self) -> None:
        """Closes it, once what is under way has its reply."""
        self.stale = True
        if self._sender is None and not self._closed:
            self._closed = True
            self._retiring = asyncio.ensure_future(self._close())
            await asyncio.wait({self._retiring})  # who is cancelled meanwhile leaves no connection open

    async def _close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closes it at this moment too
            await self._life.aclose()

    def _start(self) -> None:
        if self._sender is None and self._waiting and not self._closed:
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        batch: list[Asked] = []
        try:
            while self._waiting and not self._closed:
                batch = self._next_batch()
                _resolve(batch, await self._exchange(batch))
        finally:
            # A loop that ends cancels its tasks, this one among them. Who waits for this batch must not wait for ever;
            # what was asked since, such as a leader's last word, goes out with the next sender.
            _resolve(batch, [ENDING] * len(batch))
            self._sender = None
            self._start()
            if self.stale:
                await self.retire()

    def _next_batch(self) -> list[Asked]:
        size = count = 0
        for command, _ in self._waiting[:MOST_COMMANDS]:
            size += sum(len(word) for word in command if isinstance(word, bytes | str))
            if count and size > MOST_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _exchange(self, batch: list[Asked]) -> list[Any]:
        """A reply or an error for each."""
        try:
            if len(batch) == 1:
                return [await within_budget(self.client.execute_command(*batch[0][0]))]
            pipeline = self.client.pipeline(transaction=False)
            for command, _ in batch:
                pipeline.execute_command(*command)
            replies: list[Any] = await within_budget(pipeline.execute(raise_on_error=False))
        except Exception as error:  # noqa: BLE001 - each asker gets it, and knows what is an outage
            return [error] * len(batch)
        return replies

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._closed = True
            self._ended()
            for busy in (self._opening, self._sender):
                if busy is not None and not busy.done():  # it would connect anew, and nobody would close that
                    busy.cancel()
                    await asyncio.wait({busy})
            _resolve(self._waiting, [ENDING] * len(self._waiting))
            with contextlib.suppress(RedisError, OSError):
                await aclose(self.client)


def _resolve(batch: list[Asked], replies: list[Any]) -> None:
    for (_, future), reply in zip(batch, replies, strict=False):
        if future.done():  # told already, or its task was cancelled
            continue
        if isinstance(reply, BaseException):
            future.set_exception(reply)
            future.exception()  # its task may be gone: then nobody asks for it, which is no fault
        else:
            future.set_result(reply)


def loop_runs() -> bool:
    """Whether an asyncio loop runs in this very thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def ended(work: concurrent.futures.Future[Any], seconds: float) -> None:
    """Waits until another thread's work has ended, one way or another, and for so long at most."""
    here = asyncio.wrap_future(work)
    # Who waited asks the work itself how it ended; the loop must not complain that nobody asked its shadow.
    here.add_done_callback(lambda shadow: shadow.cancelled() or shadow.exception())
    await asyncio.wait({here}, timeout=seconds)


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
            await asyncio.wait({task}, timeout=BUDGET / TICKS)  # for its connection to be put away
