"""Before Redis is used again after an outage, what is pending is applied, while nobody else may use it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aicache.core.operations import Look, Unavailable
from aicache.store import Address, Store, breaker
from tests.store.servers import Server, until
from tests.store.tagged import ARTICLE, keep, look, question
from tests.store.test_epochs import OLD, back, binary, server

__all__ = ["binary", "server"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PROBE_EVERY", 0.1)


class Hooked:
    """A store whose way back from an outage is watched."""

    def __init__(self, server: Server, hook: Callable[[Store], None]) -> None:
        self.store = Store(Address((server.url,)), "site")
        self.store.is_on()
        self.store.connections.recovering.append(lambda: hook(self.store))


def test_what_is_pending_is_applied_before_redis_is_used_again(server: Server) -> None:
    seen: list[Any] = []
    entered, leave = threading.Event(), threading.Event()

    def hook(store: Store) -> None:
        store.stamp([ARTICLE])  # it may, who recovers
        seen.append((store.connections.breaker.down, threading.current_thread().name))
        entered.set()
        leave.wait(10)

    store = Hooked(server, hook).store
    ask = question()
    keep(store, ask, OLD)
    store.connections.breaker.trip(OSError("gone"))
    assert entered.wait(10)
    for act in (
        lambda: look(store, ask),
        lambda: store.stamp([ARTICLE]),
        lambda: asyncio.run(store.aperform(Look(ask))),
    ):
        with pytest.raises(Unavailable):
            act()
    leave.set()
    back(store)
    assert seen[0] == (True, "aicache-probe")
    assert len(seen) == 2  # a saver was turned away while it drained: it drains again
    assert look(store, ask).entry is None
    store.close()


def test_a_hook_that_fails_keeps_it_closed_whatever_it_raises(server: Server) -> None:
    troubles: list[BaseException | None] = [ValueError("no database"), SystemExit(1), Unavailable("refused"), None]
    tried: list[Any] = []

    def hook(store: Store) -> None:
        tried.append(store.connections.breaker.down)
        if (trouble := troubles[len(tried) - 1]) is not None:
            raise trouble

    store = Hooked(server, hook).store
    store.connections.breaker.trip(OSError("gone"))
    back(store)
    assert tried == [True] * 4
    assert store.is_on()
    store.close()


def test_a_saver_that_comes_an_inch_too_late_is_drained_too(server: Server) -> None:
    """Turned away just before Redis is used again, it is counted just after."""
    drained: list[int] = []
    store = Hooked(server, lambda _: drained.append(1)).store
    store.connections.breaker.turn_away()
    until(lambda: drained)
    back(store)
    store.close()


def test_where_one_saves_each_moment_there_is_an_end_to_it(server: Server) -> None:
    drains: list[float] = []

    def drain(_: Store) -> None:
        drains.append(time.monotonic())
        time.sleep(0.1)

    store = Hooked(server, drain).store
    outcomes: list[bool] = []
    stop = threading.Event()

    def save() -> None:
        while not stop.wait(0.003):
            try:
                store.stamp([ARTICLE])
            except Unavailable:
                outcomes.append(False)
            else:
                outcomes.append(True)

    savers = [threading.Thread(target=save) for _ in range(3)]
    for saver in savers:
        saver.start()
    store.connections.breaker.trip(OSError("gone"))
    until(lambda: len(drains) >= 2 and not store.connections.breaker.down, "it has no end")
    stop.set()
    for saver in savers:
        saver.join()
    assert False in outcomes
    assert outcomes[-1]
    assert len(drains) <= 4
    assert not store.connections.breaker.down
    store.close()


def test_who_saves_is_let_in_before_who_reads(server: Server) -> None:
    """By then all that was turned away is being drained; who reads waits for its end."""
    seen: list[tuple[bool, bool]] = []

    def may(act: Callable[[], Any]) -> bool:
        told: list[bool] = []

        def attempt() -> None:
            try:
                act()
            except Unavailable:
                told.append(False)
            else:
                told.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return told[0]

    def drain(store: Store) -> None:
        seen.append((may(lambda: store.stamp([ARTICLE])), may(store.is_on)))

    store = Hooked(server, drain).store
    store.connections.breaker.trip(OSError("gone"))
    back(store)
    assert seen == [(False, False), (True, False)]
    store.close()


def test_where_there_is_no_thread_to_recover_in_nothing_is_read_and_the_next_caller_tries(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read on, and what is pending here would be served."""
    drained: list[int] = []
    store = Hooked(server, lambda _: drained.append(1)).store

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        store.connections.breaker.trip(OSError("gone"))
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.is_on()
    assert not drained
    with pytest.raises(Unavailable):
        store.is_on()
    back(store)
    assert drained == [1]
    store.close()


def test_a_saver_that_finds_out_that_redis_was_started_anew_is_not_turned_away(server: Server) -> None:
    drained: list[int] = []
    store = Hooked(server, lambda _: drained.append(1)).store
    keep(store, question(), OLD)
    server.kill()
    server.start()
    store.stamp([ARTICLE])
    assert not store.connections.breaker.down
    assert drained == [1]
    store.close()
