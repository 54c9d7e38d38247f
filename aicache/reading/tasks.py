"""A stream that is read in tasks: as in threads, and who reads may be cancelled at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aicache.core.driver import SLOW, adrive
from aicache.core.operations import Flow, Operation
from aicache.core.streaming import Begin, Left, Withhold
from aicache.reading.passage import AHEAD, Passage


class AsyncReading(Passage):
    """For the tasks of one event loop. What drives it are tasks of its own: who reads may be cancelled."""

    def __init__(self, flow: Flow, perform: Callable[[Any], Awaitable[Any]], begin: Begin) -> None:
        super().__init__(flow, begin)
        self._perform = perform
        self._loop = asyncio.get_running_loop()
        self._driving = asyncio.Lock()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slow: asyncio.Task[Any] | None = None  # that waits for upstream now
        self._interrupts = False
        self._answered = asyncio.Event()  # clear while nobody knows whether others need what the caller has left
        self._answered.set()
        if self.is_own:
            self._live.followed = self._help_soon
            if self._live.is_followed:
                self._help()

    async def read(self) -> bytes | None:
        """As ``Reading.read``."""
        while not self._pieces:
            if not self._is_over:
                await asyncio.wait({self._start(self._turn())})
            if self._is_over and not self._pieces:
                self._outcome()
                return None
        piece = self._taken()
        self._room.set()
        return piece

    async def leave(self) -> None:
        """As ``Reading.leave``."""
        if not self._is_over or self._pieces:
            await asyncio.wait({self._start(self._leave())})

    def leave_soon(self) -> None:
        """As ``leave``, from any thread, such as one that collects garbage."""
        if not self._is_over:
            with suppress(RuntimeError):  # the loop has ended, and its connections with it
                self._loop.call_soon_threadsafe(lambda: self._start(self._leave()))

    async def run(self) -> None:
        self._run()
        await self._work()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _turn(self) -> None:
        async with self._driving:
            if not self._pieces and not self._is_over:
                await self._advance()

    async def _leave(self) -> None:
        self._left = True
        self._room.set()
        if self._slow is not None and not self._live.is_followed:
            self._interrupts = True
            self._slow.cancel()
            self._answered.clear()
        if self._has_help and not self._has_ended:  # it goes on for as long as others need it
            await self._answered.wait()
            return
        async with self._driving:
            await self._let_go()

    async def _let_go(self) -> None:
        self._forget()
        if not self._has_ended and not self._has_help:
            if self._pending is None:
                await self._advance(self._quit)
            if not self._has_ended:
                self._help()
        if self._has_ended:
            await self._close()

    async def _advance(self, resume: Callable[[], Operation] | None = None) -> None:
        try:
            if self._has_ended:
                await self._pass_on()
            else:
                self._came_to(await adrive(self._flow, self._performed, resume or self._go_on, stops=self._stops))
        except BaseException as error:  # noqa: BLE001 - its caller gets it
            self._ended(error)
        if self._is_over:
            await self._close()

    async def _performed(self, operation: Operation) -> Any:
        if isinstance(operation, Withhold):
            self._withheld += operation.piece
            return None
        if not isinstance(operation, SLOW):
            return await self._perform(operation)
        self._answered.set()
        self._slow = asyncio.current_task()
        try:
            return await self._perform(operation)
        except asyncio.CancelledError:
            if not self._interrupts or self._slow is None:
                raise
            self._interrupts = False
            self._slow.uncancel()
            self._asked = time.monotonic()
            raise Left from None
        finally:
            self._slow = None

    async def _pass_on(self) -> None:
        piece = None if self._upstream is None else await self._upstream.pull()
        if piece is None:
            self._is_over = True
        else:
            self._add(piece)

    async def _close(self) -> None:
        self._is_over = True
        if self._upstream is not None:
            await self._upstream.close()
        self._answered.set()

    def _help_soon(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._help)

    def _help(self) -> None:
        if not self._has_help and not self._has_ended:
            self._has_help = True
            self._start(self._work())

    async def _work(self) -> None:
        while True:
            async with self._driving:
                if self._is_over or (self._has_ended and not self._left):
                    return
                if self._must_ask_again():
                    await self._advance(self._quit)
                else:
                    await self._advance()
                if self._left:
                    self._forget()
                    if self._has_ended:
                        await self._close()
                self._room.clear()
            if self._size > AHEAD and not self._left:
                await self._room.wait()
