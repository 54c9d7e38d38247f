"""A stream that is read in tasks. One of its own drives it, as who reads may be cancelled at any moment."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

from aicache.core.driver import SLOW, adrive
from aicache.core.operations import Flow, Operation, Unavailable
from aicache.core.records import Served
from aicache.core.streaming import Begin, Left, Withhold
from aicache.reading.passage import AHEAD, Conclude, Passage, aclosed


class AsyncReading(Passage):
    """For the tasks of one event loop."""

    def __init__(self, flow: Flow, perform: Callable[[Any], Awaitable[Any]], begin: Begin) -> None:
        super().__init__(flow, begin)
        self._perform = perform
        self._loop = asyncio.get_running_loop()
        self._driver: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[None] | None = None  # who waits for a piece
        self._idle: asyncio.Future[None] | None = None  # the driver, while nobody wants one
        self._settling: asyncio.Future[None] | None = None  # who has left, until it is known what that means
        self._is_slow = self._interrupts = False
        self._is_settling = self._is_hurried = False
        self._after: Callable[[], Awaitable[None]] | None = None

    def begin(self, conclude: Conclude, after: Callable[[], Awaitable[None]] | None = None) -> None:
        """As ``Reading.begin``. ``after`` ``conclude`` it is awaited what that cannot, before who reads has the end."""
        self._conclude, self._after = conclude, after
        if self.is_own:
            self._live.followed = self._drive_soon
            if self._is_followed:
                self._drive()

    async def read(self) -> bytes | None:
        """As ``Reading.read``."""
        while not self._pieces:
            if self._is_over:
                self._outcome()
                return None
            self._reader = self._loop.create_future()
            self._drive()
            await self._reader
        piece = self._taken()
        if self._is_wanted():
            self._wake()
        return piece

    async def leave(self) -> None:
        """As ``Reading.leave``."""
        self._left = True
        self._forget()
        if self._is_over:
            return
        if self._is_settling:  # who has left is not to wait for that
            await self._close()
            return
        self._is_hurried = _is_cancelled()
        if self._is_slow:
            if not self._has_ended and await self._is_needed():
                return
            self._interrupt()
        self._settling = self._settling or self._loop.create_future()
        self._drive()
        await asyncio.shield(self._settling)  # two may leave at once, and one be cancelled

    def leave_soon(self) -> None:
        """As ``leave``, from any thread, such as one that collects garbage."""
        if self._is_over:
            return
        try:
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.leave()))
        except RuntimeError:  # the loop has ended, and its connections with it
            with suppress(RuntimeError):  # as does the interpreter
                _thread.start_new_thread(self._stay_behind, ())  # whoever collects it may hold any lock

    def _stay_behind(self) -> None:
        """Its caller has left it, and nobody can drive it any more: so it ends here."""
        self._left = self._is_over = True
        self._ended(replace(self.served, reason="left"))

    async def run(self) -> Served | None:
        """As ``Reading.run``."""
        ends = self._run()
        self._driver = asyncio.current_task()
        await self._work()
        return ends.pop() if ends else None

    def _interrupt(self) -> None:
        if self._is_slow and self._driver is not None:  # it may have come on meanwhile
            self._interrupts = True
            self._driver.cancel()

    async def _is_needed(self) -> bool:
        """While the driver waits for upstream, and the flow cannot be asked."""
        if self._begin.drains or self._is_followed_here:
            return True
        try:
            return self._begin.leave is not None and bool(await self._perform(self._begin.leave))
        except Unavailable:
            return False

    def _drive_soon(self) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._drive)
        except RuntimeError as ended:  # with the loop, and nobody can drive it any more: others are not to wait for it
            self._left = self._is_over = True
            self._ended(ended)

    def _drive(self) -> None:
        self._has_help = True
        if self._driver is None:
            self._driver = self._loop.create_task(self._work())
            self._driver.add_done_callback(self._driven)
        else:
            self._wake()

    def _driven(self, driver: asyncio.Task[None]) -> None:
        """It may have been cancelled before its first step, with its loop."""
        if not self._has_ended:
            self._stay_behind()

    def _wake(self) -> None:
        self._tell(self._idle)

    def _is_wanted(self) -> bool:
        if self._left or (self._reader is not None and not self._reader.done() and not self._pieces):
            return True
        has_room = self._size <= AHEAD or not self._live.outgrown
        return not self._has_ended and self._is_followed and has_room

    async def _work(self) -> None:
        try:
            while not self._is_over:
                if self._is_wanted():
                    await self._step()
                    continue
                self._idle = self._loop.create_future()
                try:
                    await self._idle
                except asyncio.CancelledError:  # the loop is ending
                    self._left = True
        finally:
            self._is_over = True
            self._tell(self._reader)
            self._tell(self._settling)

    async def _step(self) -> None:
        if not (self._has_ended and self._left):
            await self._advance(self._quit if self._must_ask_again() else None)
        if self._has_ended and not self._left:
            await self._settle()
        if self._left:
            self._forget()
        if self._has_ended and self._left:
            await self._close()
            await self._settle()
        if self._pieces:
            self._tell(self._reader)
            self._reader = None

    async def _settle(self) -> None:
        """Who reads, or leaves unless it is cancelled, waits for what is to be awaited at the end."""
        after, self._after = self._after, None
        if after is None:
            return
        if self._is_hurried:
            self._tell(self._settling)
        self._is_settling = True
        try:
            await after()
        except asyncio.CancelledError:  # the loop is ending
            self._left = True
        finally:
            self._is_settling = False

    async def _advance(self, resume: Callable[[], Operation] | None = None) -> None:
        try:
            if self._has_ended:
                await self._pass_on()
            else:
                self._came_to(await adrive(self._flow, self._performed, resume or self._go_on))
        except BaseException as error:
            if getgeneratorstate(self._flow) == GEN_SUSPENDED:
                raised_in = error.__traceback__
                with suppress(BaseException):
                    await adrive(self._flow, self._perform, partial(self._flow.throw, error), stops=lambda _: False)
                error.__traceback__ = raised_in  # else it holds what its own frames hold, itself among them
            self._ended(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):  # it is the loop's
                raise
        finally:
            if self._is_over:
                await self._close()

    async def _performed(self, operation: Operation) -> Any:
        if isinstance(operation, Withhold):
            self._withheld += operation.piece
            return None
        if not isinstance(operation, SLOW):
            return await self._perform(operation)
        if not self._interrupts:
            self._tell(self._settling)
        self._is_slow = True
        try:
            return await self._perform(operation)
        except asyncio.CancelledError:
            if not self._interrupts or self._driver is None:
                raise
            self._interrupts = False
            self._driver.uncancel()
            raise Left from None
        finally:
            self._is_slow = False

    async def _pass_on(self) -> None:
        self._is_slow = True
        try:
            piece = None if self._upstream is None else await self._upstream.pull()
        except asyncio.CancelledError:
            if not self._interrupts or self._driver is None:
                raise
            self._interrupts = False
            self._driver.uncancel()
            piece = None
        finally:
            self._is_slow = False
        if piece is None:
            self._is_over = True
        else:
            self._add(piece)

    async def _close(self) -> None:
        self._is_over = True
        if self._upstream is not None:
            await aclosed(self._upstream)

    @staticmethod
    def _tell(who: asyncio.Future[None] | None) -> None:
        if who is not None and not who.done():
            who.set_result(None)


def _is_cancelled() -> bool:
    """Whether who runs this is on its way out."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
