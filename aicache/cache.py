"""Performs what flows ask for, in threads and in tasks, over the site's one store and one database."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from django.core.signals import setting_changed

from aicache import outcome
from aicache.clock import clock
from aicache.conf import cache_configuration, get_settings, site
from aicache.core.driver import adrive, drive
from aicache.core.flow import Serving
from aicache.core.gating import Shut, Sleep, Stay
from aicache.core.operations import (
    Call,
    Claim,
    Count,
    Elapsed,
    Form,
    Keep,
    Now,
    Pause,
    Recall,
    Settle,
    Spawn,
    Unavailable,
    Wait,
)
from aicache.core.records import Answer, Ask, Called, Failure, Opened, Served
from aicache.core.streaming import Begin, Pull
from aicache.core.turns import News
from aicache.database import BUDGET
from aicache.durable import Durable, Work, counting, durable_of
from aicache.freshness.recovery import recover
from aicache.reading import AsyncReading, Reading, aclosed, closed
from aicache.store import Address, Store
from aicache.store.line import ended, loop_runs

logger = logging.getLogger("aicache")

# The questions and gates that are led by a call further up: whoever waits for them in here waits for itself.
GATE: Final = ""
_led: ContextVar[frozenset[tuple[str, str]]] = ContextVar("aicache_led", default=frozenset())


class Cache:
    """One for a process. ``store`` performs what needs one; the rest a flow asks for is done here.

    ``durable``: None where there is no database for it.
    """

    def __init__(self, store: Any, durable: Durable | None = None) -> None:
        self.store = store
        self.durable = durable
        self._background: set[asyncio.Task[Any]] = set()

    def serve(self, flow: Serving, call: Callable[[Form], Called]) -> Served | Reading:
        """Runs a flow in this thread, to its end or to where its caller begins to read. Raises what ``call`` raises,
        and nothing of the store's."""
        began = time.monotonic()

        def perform(operation: Any) -> Any:
            match operation:
                case Call():
                    with _leading(operation):
                        return call(operation.form)
                case Wait() if _is_led_here(operation.ask):
                    return News.NOT_SHARED
                case Stay() if (GATE, operation.token) in _led.get():
                    return News.NOT_SHARED
                case Wait() | Stay() if loop_runs() and self.store.leads(operation.token):
                    # The leader may be a task of the loop that this wait would stop.
                    return News.NOT_SHARED
                case Spawn():
                    return self._start(operation, call)
                case Now() | Elapsed():
                    return clock(operation, began)
                case Count() | Recall() | Claim() | Settle():
                    work = self._begun(operation)
                    try:
                        work.wait(BUDGET)
                    except BaseException:
                        work.abandon()
                        raise
                    return work.result()
                case Keep():
                    return self._keep(operation)
                case Pause():
                    if _is_led_here(operation.ask) or (operation.busy.here and loop_runs()):
                        raise Unavailable("database")
                    over = self._over(operation)
                    return time.sleep(operation.seconds) if over is None else _wait(over, operation.seconds)
                case Pull():
                    return operation.upstream.pull()
                case Shut():
                    return closed(operation.upstream)
                case Sleep():
                    return time.sleep(operation.seconds)
            return self.store.perform(operation)

        handed: Served | Begin = drive(flow, perform)
        return Reading(flow, perform, handed) if isinstance(handed, Begin) else handed

    async def aserve(self, flow: Serving, call: Callable[[Form], Awaitable[Called]]) -> Served | AsyncReading:
        """As ``serve``, in this task; passes the cache by on another event loop than asyncio's, such as trio's."""
        if not loop_runs():
            return _untouched(await call("own"))
        began = time.monotonic()

        async def perform(operation: Any) -> Any:
            match operation:
                case Call():
                    with _leading(operation):
                        return await call(operation.form)
                case Wait() if _is_led_here(operation.ask):
                    return News.NOT_SHARED
                case Stay() if (GATE, operation.token) in _led.get():
                    return News.NOT_SHARED
                case Spawn():
                    task = asyncio.create_task(self._aquietly(operation, call))
                    self._background.add(task)
                    task.add_done_callback(self._background.discard)
                    return True
                case Now() | Elapsed():
                    return clock(operation, began)
                case Count() | Recall() | Claim() | Settle():
                    work = self._begun(operation)
                    try:
                        while (seconds := work.left(BUDGET)) > 0:
                            await ended(work.future, seconds)
                    except GeneratorExit:  # garbage is collected, perhaps inside a lock: a claim ends by itself
                        raise
                    except BaseException:
                        work.abandon()
                        raise
                    return work.result()
                case Keep():
                    return self._keep(operation)
                case Pause():
                    if _is_led_here(operation.ask):
                        raise Unavailable("database")
                    over = self._over(operation)
                    return await (asyncio.sleep(operation.seconds) if over is None else ended(over, operation.seconds))
                case Pull():
                    return await operation.upstream.pull()
                case Shut():
                    return await aclosed(operation.upstream)
                case Sleep():
                    return await asyncio.sleep(operation.seconds)
            return await self.store.aperform(operation)

        handed: Served | Begin = await adrive(flow, perform)
        return AsyncReading(flow, perform, handed) if isinstance(handed, Begin) else handed

    def _begun(self, operation: Count | Recall | Claim | Settle) -> Work:
        """Raises Unavailable."""
        if isinstance(operation, Count):
            return counting(operation)
        if self.durable is None:
            raise Unavailable("database")
        return self.durable.begin(operation)

    def _over(self, operation: Pause) -> Future[None] | None:
        return None if self.durable is None else self.durable.over(operation)

    def _keep(self, operation: Keep) -> None:
        if self.durable is not None:
            self.durable.keep(operation)

    def _start(self, spawn: Spawn, call: Callable[[Form], Called]) -> bool:
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._quietly, spawn, call), name="aicache-renew", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads on this machine, or none any more as the interpreter ends
            logger.warning("a stale answer is not renewed: %s", error)
            return False
        return True

    def _quietly(self, spawn: Spawn, call: Callable[[Form], Called]) -> None:
        try:
            served = self.serve(spawn.flow, call)
            outcome.renewed(spawn.ask, served.run() if isinstance(served, Reading) else served)
        except Exception:
            logger.warning("renewing a stale answer failed", exc_info=True)

    async def _aquietly(self, spawn: Spawn, call: Callable[[Form], Awaitable[Called]]) -> None:
        try:
            served = await self.aserve(spawn.flow, call)
            await outcome.arenewed(spawn.ask, await served.run() if isinstance(served, AsyncReading) else served)
        except Exception:
            logger.warning("renewing a stale answer failed", exc_info=True)


def _untouched(called: Called) -> Served:
    """What upstream said to a call for which nothing can be done here, not even its stream be recorded."""
    if isinstance(called.outcome, Opened):
        called.outcome.upstream.over()
        called = Called(called.outcome.upstream.taken(), Answer(b""))
    return Served("error" if isinstance(called.outcome, Failure) else "degraded", "no_event_loop", own=called)


def _wait(future: Future[None], seconds: float) -> None:
    wait([future], seconds)


@contextmanager
def _leading(call: Call) -> Iterator[None]:
    before = _led.get()
    led = set() if call.leads is None else {(call.leads.tenant, call.leads.key)}
    _led.set(before | led | ({(GATE, call.gate)} if call.gate else set()))
    try:
        yield
    finally:
        _led.set(before)  # a reset fails where a coroutine is closed in another context than it ran in


def _is_led_here(ask: Ask) -> bool:
    return (ask.tenant, ask.key) in _led.get()


_made: Cache | None = None
_pinned: Cache | None = None
_making = threading.Lock()


def get_cache() -> Cache:
    """The process's cache, made at first use. Raises ImproperlyConfigured."""
    global _made
    if _pinned is not None:
        return _pinned
    if _made is None:
        with _making:
            if _made is None:
                settings = get_settings()
                store = Store(Address.of_alias(cache_configuration(settings)), site(settings))
                store.connections.recovering.append(recover)
                _made = Cache(store, durable_of(settings, site(settings)))
    return _made


@contextmanager
def pinned(cache: Cache) -> Iterator[None]:
    """Puts another cache in place of the one that the settings say, for the whole process."""
    global _pinned
    before, _pinned = _pinned, cache
    try:
        yield
    finally:
        _pinned = before


def _forget(*, setting: str, **_: Any) -> None:
    global _made
    if setting in ("AICACHE", "CACHES"):
        with _making:
            old, _made = _made, None
        if old is not None:
            old.store.close()


def _forget_after_fork() -> None:
    """A child has its parent's sockets and none of its threads: it starts anew, and leaves the parent's alone."""
    global _made, _making
    _made, _making = None, threading.Lock()


setting_changed.connect(_forget, dispatch_uid="aicache.cache")
os.register_at_fork(after_in_child=_forget_after_fork)
