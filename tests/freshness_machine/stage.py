"""Puts steps where the product's code would sleep, start threads, open connections or ask for the time."""

from __future__ import annotations

import datetime as dates
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from aicache import cache, models
from aicache import clock as clocks
from aicache.core.live import Live
from aicache.core.tags import Tag
from aicache.durable import claims, copies, trouble, work
from aicache.freshness import databases, stamps
from aicache.store import breaker, connections, ear, links, plans, tags
from aicache.testing import memory
from tests.freshness_machine.actors import current, pause

PROBE: Final = "the probe"
OPEN: Final = "+open"


class Clock:
    """In place of the modules ``time``, ``datetime`` and ``timezone``."""

    now = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        pause("sleep", lambda: self.now < until)

    def timezone(self) -> Any:
        return SimpleNamespace(now=lambda: dates.datetime.fromtimestamp(self.now, dates.UTC))

    def datetime(self) -> Any:
        class At(dates.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return dates.datetime.fromtimestamp(clock.now, tz)

        return At


clock = Clock()


class Shown:
    """The world on stage."""

    world: Any = None


shown = Shown()


class Event(threading.Event):
    """Somebody who waits for nothing but time to pass."""

    def wait(self, timeout: float | None = None) -> bool:
        pause("sleep")
        return self.is_set()


class Lock:
    """One that is held over several steps."""

    def __init__(self) -> None:
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            pause("lock", lambda: self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class Thread:
    def __init__(self, target: Callable[..., Any], args: Sequence[Any] = (), **_: Any) -> None:
        self._act = lambda: target(*args)

    def start(self) -> None:
        actor = current()
        # What is started from the machine's own thread belongs to no process.
        life = actor.life if actor is not None else shown.world.processes[0]
        shown.world.act(PROBE, life, self._act)


def _wait(self: ear.Ear, token: str, seconds: float, live: Live, *, reads: bool) -> Any:
    with self._waiting(token, live) as news:
        until = clock.now + self._patience(token, seconds)
        while not news.done():
            if clock.now >= until or pause("wait", lambda: not news.done() and clock.now < until):
                return None
        return news.result()


def _until(_: Future[None], seconds: float) -> None:
    """Who waits for the end of another's claim may hear of it at any time, or ask too early."""
    clock.sleep(seconds)


def _apart(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
    """Its caller's steps: nobody gives up before a database does."""
    found: Future[Any] = Future()
    try:
        found.set_result(function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        found.set_exception(error)
    return found


def _generations(of: Sequence[Tag]) -> tuple[int, ...]:
    found: tuple[int, ...] = shown.world.database.generations(of)
    return found


def _insert(*args: Any, **kwargs: Any) -> None:
    shown.world.database.insert(*args, **kwargs)


def _at_once(using: str, act: Callable[[], Any], *_: Any) -> Any:
    return act()


def _is_open_here(using: str) -> bool:
    """Whether the thread has a transaction open, on SQLite."""
    actor = current()
    return actor is not None and actor.name.endswith(OPEN)


def _store() -> Any:
    actor: Any = current()
    return actor.life.store


def _client(address: Any, *, cluster: bool, on_connect: Any) -> Any:
    return shown.world.client(address.options["process"], on_connect)


@contextmanager
def set_up() -> Iterator[None]:
    """For as many examples as there are to be."""
    thread_shim = SimpleNamespace(Thread=Thread, Event=Event, Lock=threading.Lock, get_ident=threading.get_ident)
    with ExitStack() as stack:
        for module in (plans, tags, ear, links, cache, clocks, memory, copies, claims, trouble):
            stack.enter_context(mock.patch.object(module, "time", clock))
        for module in (copies, claims, work):
            stack.enter_context(mock.patch.object(module, "generations", _generations))
        for module in (copies, claims):
            stack.enter_context(mock.patch.object(module, "insert", _insert))
        for model in (models.Invalidation, models.CacheEntry, models.IdempotencyKey):
            stack.enter_context(mock.patch.object(model, "objects", _Objects(model)))
        stack.enter_context(mock.patch.object(clocks, "datetime", clock.datetime()))
        stack.enter_context(mock.patch.object(cache, "_wait", _until))
        stack.enter_context(mock.patch.object(claims, "timezone", clock.timezone()))
        for module, name in ((claims, "read"), (claims, "write"), (work, "read")):
            stack.enter_context(mock.patch.object(module, name, _at_once))
        stack.enter_context(mock.patch.object(claims, "leave"))
        stack.enter_context(mock.patch.object(work, "apart", _apart))
        stack.enter_context(mock.patch.object(work, "is_open_here", _is_open_here))
        stack.enter_context(mock.patch.object(breaker, "threading", thread_shim))
        stack.enter_context(mock.patch.object(connections, "threading", SimpleNamespace(Lock=Lock)))
        stack.enter_context(mock.patch.object(links, "sync_client", _client))
        stack.enter_context(mock.patch.object(ear.Ear, "wait", _wait))
        stack.enter_context(mock.patch.object(databases, "has_table", lambda alias: alias == "default"))
        stack.enter_context(mock.patch.object(databases, "is_migrated", return_value=True))
        stack.enter_context(mock.patch.object(stamps, "_get_store", _store))
        stack.enter_context(mock.patch.object(stamps, "_trouble", ""))
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # thousands of outages
        try:
            yield
        finally:
            logging.disable(before)


class _Objects:
    """A model's rows, in the world on stage."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def using(self, alias: str) -> Any:
        return shown.world.database.tables[self._model].using(alias)
