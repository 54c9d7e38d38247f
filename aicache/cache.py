"""Drives flows: one driver that calls, one that awaits, over the site's one store."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

from django.core.signals import setting_changed
from django.utils import timezone

from aicache.conf import Settings, cache_configuration, get_settings
from aicache.core.flow import Serving, alone
from aicache.core.operations import Call, Count, Elapsed, Flow, Moment, News, Now, Spawn, Unavailable, Wait
from aicache.core.policy import life
from aicache.core.records import Ask, Called, Served
from aicache.core.tags import digest
from aicache.database import BUDGET, apart
from aicache.freshness.generations import generations
from aicache.freshness.recovery import recover
from aicache.store import Address, Store
from aicache.store.line import ended

logger = logging.getLogger("aicache")

# Of our own: the state of the module's is the site's to seed, and children would share it after a fork.
_dice: Final = random.SystemRandom()

# The questions that are led by a call further up: whoever waits for their answer in here waits for itself.
_led: ContextVar[frozenset[tuple[str, str]]] = ContextVar("aicache_led", default=frozenset())


class Cache:
    """One for a process. ``store`` performs what needs one; the rest a flow asks for is done here."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self._background: set[asyncio.Task[Any]] = set()

    def serve(self, flow: Serving, call: Callable[[], Called]) -> Served:
        """Runs a flow to its end in this thread. Raises what ``call`` raises, and nothing of the store's."""
        began = time.monotonic()

        def perform(operation: Any) -> Any:
            match operation:
                case Call():
                    with _leading(operation.leads):
                        return call()
                case Wait() if _is_led_here(operation.ask):
                    return News.NOT_SHARED
                case Wait() if _loop_runs() and self.store.leads(operation.token):
                    # The leader may be a task of the loop that this wait would stop.
                    return News.NOT_SHARED
                case Spawn():
                    return self._start(operation.flow, call)
                case Now() | Elapsed():
                    return _clock(operation, began)
                case Count():
                    return _counted(apart(generations, operation.tags))
            return self.store.perform(operation)

        served: Served = _drive(flow, perform)
        return served

    async def aserve(self, flow: Serving, call: Callable[[], Awaitable[Called]]) -> Served:
        """As ``serve``, in this task; passes the cache by on another event loop than asyncio's, such as trio's."""
        if not _loop_runs():
            flow = alone("degraded", "no_event_loop")
        began = time.monotonic()

        async def perform(operation: Any) -> Any:
            match operation:
                case Call():
                    with _leading(operation.leads):
                        return await call()
                case Wait() if _is_led_here(operation.ask):
                    return News.NOT_SHARED
                case Spawn():
                    task = asyncio.create_task(self._aquietly(operation.flow, call))
                    self._background.add(task)
                    task.add_done_callback(self._background.discard)
                    return True
                case Now() | Elapsed():
                    return _clock(operation, began)
                case Count():
                    counting = apart(generations, operation.tags)
                    try:
                        await ended(counting, BUDGET)
                    except BaseException:
                        counting.cancel()
                        raise
                    return _counted(counting, budget=0)
            return await self.store.aperform(operation)

        served: Served = await _adrive(flow, perform)
        return served

    def _start(self, flow: Flow, call: Callable[[], Called]) -> bool:
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._quietly, flow, call), name="aicache-renew", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads on this machine, or none any more as the interpreter ends
            logger.warning("a stale answer is not renewed: %s", error)
            return False
        return True

    def _quietly(self, flow: Flow, call: Callable[[], Called]) -> None:
        try:
            self.serve(flow, call)
        except Exception:
            logger.warning("renewing a stale answer failed", exc_info=True)

    async def _aquietly(self, flow: Flow, call: Callable[[], Awaitable[Called]]) -> None:
        try:
            await self.aserve(flow, call)
        except Exception:
            logger.warning("renewing a stale answer failed", exc_info=True)


def _drive(flow: Flow, perform: Callable[[Any], Any]) -> Any:
    try:
        operation = next(flow)
        while True:
            try:
                result = perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value


async def _adrive(flow: Flow, perform: Callable[[Any], Awaitable[Any]]) -> Any:
    try:
        operation = next(flow)
        while True:
            try:
                result = await perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value


@contextmanager
def _leading(ask: Ask | None) -> Iterator[None]:
    before = _led.get()
    _led.set(before if ask is None else before | {(ask.tenant, ask.key)})
    try:
        yield
    finally:
        _led.set(before)  # a reset fails where a coroutine is closed in another context than it ran in


def _is_led_here(ask: Ask) -> bool:
    return (ask.tenant, ask.key) in _led.get()


def _loop_runs() -> bool:
    """Whether an asyncio loop runs in this very thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _counted(counting: Future[tuple[int, ...]], budget: float = BUDGET) -> tuple[int, ...]:
    """Raises Unavailable."""
    global _database_failed
    try:
        counted = counting.result(budget)
    except Exception as error:
        counting.cancel()
        if not _database_failed:
            logger.warning("the database cannot say what is fresh: strict calls go to upstream", exc_info=error)
        _database_failed = True
        raise Unavailable("database") from error
    if _database_failed:
        logger.warning("the database says again what is fresh")
    _database_failed = False
    return counted


_database_failed = False


def _clock(operation: Now | Elapsed, began: float) -> Moment | float:
    if isinstance(operation, Elapsed):
        return time.monotonic() - began
    zone = timezone.get_current_timezone()
    now = datetime.now(zone)
    if operation.kept_at is None:
        return Moment(now.timestamp(), life(operation.policy, now, _dice.random()))
    # By a clock that was wrong it may be kept at any time; no calendar takes them all.
    kept = datetime.fromtimestamp(min(max(operation.kept_at, 0.0), now.timestamp()), zone)
    return Moment(now.timestamp(), life(operation.policy, kept, chance=0))


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
                _made = Cache(store)
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


def site(settings: Settings) -> str:
    """What keeps sites apart that share a server."""
    prefix = str(cache_configuration(settings).get("KEY_PREFIX") or "")
    return f"{digest('site', prefix)}:{settings.namespace}" if prefix else settings.namespace


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
