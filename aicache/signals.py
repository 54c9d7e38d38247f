"""What a site may listen to: how calls ended, what was stored, what died. Where nobody listens, nothing is paid for it.

Receivers are connected as to any signal of Django's, and stand in nobody's way: what one raises is logged. Nothing of
what was asked or answered is told to them. ``sender`` is None.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.dispatch import Signal

logger = logging.getLogger("aicache.signals")

Untold = list[Callable[[], Awaitable[None]]]
"""Async receivers that are still to be told: see ``settle`` and ``asettle``."""

_inside: ContextVar[frozenset[object]] = ContextVar("aicache_inside", default=frozenset())
_around: Callable[[], AbstractContextManager[Any]] = nullcontext


class Event(Signal):
    """Tells its receivers, each whatever the others do. What one raises is logged once, until it works again.

    A receiver is not told of what it causes itself, such as a call that it makes: that would have no end.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._failing: set[str] = set()
        _events.append(self)

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens. Asked before anything is made for them."""
        return bool(self.receivers) and self.has_listeners()

    def tell(self, **told: Any) -> None:
        """In sync code."""
        settle(self.begin(**told))

    def begin(self, **told: Any) -> Untold:
        """Calls the sync receivers here and now, in sync code and in tasks. → the others."""
        if not self.receivers:
            return []
        called, awaited = self._live_receivers(None)
        for receiver in called:
            with self._telling(receiver) as is_news:
                if is_news:
                    receiver(signal=self, sender=None, **told)
        return [partial(self._atell, receiver, told) for receiver in awaited]

    async def _atell(self, receiver: Callable[..., Awaitable[Any]], told: dict[str, Any]) -> None:
        try:
            with self._telling(receiver) as is_news:
                if is_news:
                    await receiver(signal=self, sender=None, **told)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._failed(receiver, error)

    @contextmanager
    def _telling(self, receiver: Callable[..., Any]) -> Iterator[bool]:
        before, place = _inside.get(), _place(receiver)
        _inside.set(before | {place})
        try:
            with _around():
                yield place not in before
        except Exception as error:  # noqa: BLE001 - whatever the site's own code raises
            self._failed(receiver, error)
        else:
            if self._failing:
                self._failing.discard(_named(receiver))
        finally:
            _inside.set(before)  # a reset fails where a coroutine is closed in another context than it ran in

    def _failed(self, receiver: Callable[..., Any], error: BaseException) -> None:
        name = _named(receiver)
        if name not in self._failing:
            self._failing.add(name)
            logger.error("%s fails, a receiver of %s", name, self.name, exc_info=error)


def _place(receiver: Any) -> object:
    """Which one it is: a bound method is another object each time."""
    return (id(receiver.__self__), id(receiver.__func__)) if hasattr(receiver, "__func__") else id(receiver)


def _named(receiver: Callable[..., Any]) -> str:
    """Not each callable has a name of its own: a partial, or an object, goes by its class."""
    named: Any = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{named.__module__}.{named.__qualname__}"


def settle(left: Untold) -> None:
    """Tells the async receivers in sync code, as Django's own signals do. Where a loop runs in this very thread, nobody
    can wait for them in it."""
    if left and not soon(left):
        try:
            async_to_sync(asettle)(left)
        except RuntimeError as error:  # no thread is to be had any more, as the interpreter ends
            logger.debug("async receivers are not told: %r", error)


def soon(left: Untold) -> bool:
    """Tells them in a task of the loop that runs in this thread, for which nobody waits. → whether there is one."""
    if (loop := _loop()) is None:
        return False
    if left:
        task = loop.create_task(asettle(left))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    return True


async def asettle(left: Untold) -> None:
    """As ``settle``, in a task, which waits for them."""
    if not left:
        return
    if _loop() is None:  # another kind of loop, such as trio's
        for tell in left:
            await tell()
    else:
        await asyncio.gather(*(tell() for tell in left))


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def tell_inside(around: Callable[[], AbstractContextManager[Any]]) -> None:
    """Each receiver is called inside of one: what it does is not done by whom it is told of."""
    global _around
    _around = around


_events: Final[list[Event]] = []
_tasks: Final[set[asyncio.Task[None]]] = set()

call_ended = Event("call_ended")
"""Each call, once, whatever became of it. ``info``: its CallInfo. ``tenant``: whose it was, as the site named it: a str
or ``aicache.GLOBAL``, "" on a site with ``SINGLE_TENANT``, None for nobody's. ``model``: "" where none is named.
``policy``: its name."""

cache_hit = Event("cache_hit")
"""Of these, what was answered without a call of its own: ``hit``, ``stale``, ``semantic``, ``coalesced``. The same."""

cache_missed = Event("cache_missed")
"""Of these, what the cache was asked for and had no answer to: ``miss``. The same."""

answer_stored = Event("answer_stored")
"""An answer is kept from now on: a call's, or one that was renewed in the background, which is no call of anybody's.
The same, and ``key``; ``tags``: a frozenset of names; ``expires_in``: seconds; ``cost``: dollars as a Decimal, None
where no price is known."""

tag_invalidated = Event("tag_invalidated")
"""Stamps were drawn anew. ``tags``: a tuple of ``core.tags.Tag``; ``cause``: words for people; ``using``: the database.

Sent after the commit, in the process that applied them: the saver's, or the one that drains.
"""

invalidation_pending = Event("invalidation_pending")
"""Committed, but the stamps could not be drawn; the next drain will. The same arguments as ``tag_invalidated``."""


def _forget_after_fork() -> None:
    """Another thread of the parent may have held a lock; its tasks are the parent's."""
    for event in _events:
        event.lock = threading.Lock()
    _tasks.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
