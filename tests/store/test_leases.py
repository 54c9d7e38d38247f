"""Leases that are renewed whatever happens, and freed whoever leaves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from aicache.core.operations import Finish, Lead
from aicache.core.records import NO_STAMPS
from aicache.core.turns import Led
from aicache.store import Store, leases
from aicache.store.leases import BATCH, Lease, Leases
from tests.store.conftest import an_ask, names_of


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY", 0.05)


class Renewed:
    """Renews all there is, and remembers what."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []

    def __call__(self, leases: list[Lease]) -> list[bool]:
        self.leases += leases
        return [True] * len(leases)


def until(told: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_that_nobody_expects_ends_no_renewal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    beats: list[int] = []

    def renew(held: list[Lease]) -> list[bool]:
        beats.append(len(held))
        if len(beats) < 4:
            raise ValueError("not what was asked for")
        return [True] * len(held)

    held, led = Leases(renew), Led("token")
    held.hold(("key",), led)
    until(lambda: len(beats) > 6)

    assert held.holds("token")
    assert len(caplog.records) == 1
    held.drop("token")


def test_one_batch_that_fails_leaves_the_others_alone() -> None:
    seen: set[str] = set()

    def renew(held: list[Lease]) -> list[bool]:
        if held[0][1] == "0":
            raise ValueError("not what was asked for")
        seen.update(token for _, token in held)
        return [True] * len(held)

    held, led = Leases(renew), [Led(str(at)) for at in range(2 * BATCH)]
    for one in led:
        held.hold(("key",), one)
    until(lambda: len(seen) >= BATCH)
    for one in led:
        held.drop(one.token)


def test_a_thread_that_died_is_replaced() -> None:
    renewed = Renewed()
    held, led = Leases(renewed), Led("token")
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    held._thread = dead
    held.hold(("key",), led)
    until(lambda: renewed.leases)
    held.drop("token")


def test_without_a_thread_to_be_had_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    renewed = Renewed()
    held, led = Leases(renewed), [Led("1"), Led("2"), Led("3")]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        held.hold(("key",), led[0])
        held.hold(("key",), led[1])
    assert len(caplog.records) == 1

    held.hold(("key",), led[2])
    until(lambda: len(renewed.leases) >= 3)
    for one in led:
        held.drop(one.token)


def test_a_lease_whose_holder_is_gone_is_renewed_no_more() -> None:
    renewed = Renewed()
    held = Leases(renewed)
    held.hold(("key",), Led("dropped at once"))
    until(lambda: not held)
    assert renewed.leases == []


def test_thousands_of_leases_are_renewed_in_a_few_round_trips(
    store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.leases, "hold", Mock())
    asks = [an_ask(key=f"{number:064x}") for number in range(3 * BATCH)]
    held: list[Lease] = []
    for ask in asks:
        led = store.perform(Lead(ask, NO_STAMPS, since=0))
        assert isinstance(led, Led)
        held.append((names_of(store, ask), led.token))
    counted = Mock(wraps=store.connections.pipeline)
    monkeypatch.setattr(store.connections, "pipeline", counted)

    server.pexpire(held[0][0][0], 1000)
    server.delete(held[1][0][0])
    kept = [ours for at in range(0, len(held), BATCH) for ours in store._renew(held[at : at + BATCH])]

    assert kept == [True, False] + [True] * (len(held) - 2)
    assert server.pttl(held[0][0][0]) > 4000
    assert counted.call_count <= 4  # the first of them may have to teach the server the script


def test_a_server_that_forgot_the_script_renews_all_the_same(store: Store, server: redis.Redis) -> None:
    ask = an_ask()
    led = store.perform(Lead(ask, NO_STAMPS, since=0))
    lease, mark, _ = names = names_of(store, ask)
    server.script_flush()
    server.pexpire(lease, 1000)
    server.pexpire(mark, 1000)

    assert store._renew([(names, led.token), (names, "another")]) == [True, False]
    assert server.pttl(lease) > 4000
    assert server.pttl(mark) > 4000
    store.perform(Finish(ask, NO_STAMPS, led.token))


def test_a_thread_that_is_interrupted_while_it_leads_leaves_no_lease_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, run = an_ask(), store.connections.run

    def interrupted(plan: Any) -> Any:
        monkeypatch.setattr(store.connections, "run", run)
        run(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.connections, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.perform(Lead(ask, NO_STAMPS, since=0))
    assert isinstance(store.perform(Lead(ask, NO_STAMPS, since=0)), Led)
