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

from django.db import OperationalError

from aicache import cache, models
from aicache.core.operations import News
from aicache.core.tags import Tag
from aicache.freshness import databases, stamps
from aicache.store import breaker, connections, ear, links, plans, tags
from aicache.testing import memory
from tests.freshness_machine.actors import current, pause

PROBE: Final = "the probe"


class Clock:
    """In place of the modules ``time`` and ``datetime``."""

    now = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time

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


def _wait(self: ear.Ear, token: str, seconds: float) -> Any:
    with self._waiting(token) as news:
        until = clock.now + self._patience(token, seconds)
        while not news.done():
            if clock.now >= until or pause("wait", lambda: not news.done() and clock.now < until):
                return News.LOOK_AGAIN
        return news.result()


def _apart(function: Any, names: Sequence[Tag]) -> Future[Any]:
    counted: Future[Any] = Future()
    try:
        counted.set_result(shown.world.table.generations(names))
    except OperationalError as error:
        counted.set_exception(error)
    return counted


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
        for module in (plans, tags, ear, links, cache, memory):
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch.object(cache, "datetime", clock.datetime()))
        stack.enter_context(mock.patch.object(cache, "apart", _apart))
        stack.enter_context(mock.patch.object(cache, "_database_failed", False))
        stack.enter_context(mock.patch.object(breaker, "threading", thread_shim))
        stack.enter_context(mock.patch.object(connections, "threading", SimpleNamespace(Lock=Lock)))
        stack.enter_context(mock.patch.object(links, "sync_client", _client))
        stack.enter_context(mock.patch.object(ear.Ear, "wait", _wait))
        stack.enter_context(mock.patch.object(models, "Invalidation", _Standing()))
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


class _Standing:
    """For the table of the world on stage."""

    @property
    def objects(self) -> Any:
        return shown.world.table
