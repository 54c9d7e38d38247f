"""What one process hears, with a subscription that obeys the test."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from aicache.core.operations import Finish, Lead, Look, Unavailable, Wait
from aicache.core.records import NO_STAMPS
from aicache.core.turns import Held, Led, News
from aicache.store import Address, Store, ear
from aicache.store.ear import Ear
from aicache.store.news import Heard
from aicache.testing.valkey import Valkey
from tests.store.conftest import URL, an_ask, an_entry, taken

TOKENS = [f"{number:032x}" for number in range(10_000)]


class Subscription:
    """As redis-py's. ``alive``: whether it answers a ping."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive
        self.pings = 0
        self.closed = False
        self.messages: Queue[dict[str, Any]] = Queue()

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        try:
            return self.messages.get(timeout=timeout)
        except Empty:
            return None

    def ping(self) -> None:
        self.pings += 1
        if self.alive:
            self.messages.put({"type": "pong", "data": b""})

    def say(self, token: str, news: bytes = b"n") -> None:
        self.messages.put({"type": "message", "data": token.encode() + news})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "CHECK_EVERY", 0.05)


@pytest.fixture
def subscriptions() -> list[Subscription]:
    return []


@pytest.fixture
def hearing(subscriptions: list[Subscription], often: None) -> Iterator[Ear]:
    def subscribe(channel: str) -> Subscription:
        subscriptions.append(Subscription())
        return subscriptions[-1]

    hearing = Ear("channel", subscribe, lambda data: Heard(News.NOT_SHARED), lambda token: False)
    assert hearing.listen().result(5)
    yield hearing
    hearing.close()


def until(told: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(hearing: Ear, seconds: float = 20.0) -> tuple[threading.Thread, list[Any]]:
    news: list[Any] = []
    waiter = threading.Thread(target=lambda: news.append(hearing.wait(TOKENS[0], seconds)))
    waiter.start()
    until(lambda: hearing._somebody_waits())
    return waiter, news


def test_thousands_that_are_told_at_once_do_not_block_their_loop(
    hearing: Ear, subscriptions: list[Subscription]
) -> None:
    async def main() -> float:
        waiters = [asyncio.create_task(hearing.await_(token, 60)) for token in TOKENS]
        await asyncio.sleep(0)
        began = time.monotonic()
        for token in TOKENS:
            subscriptions[0].say(token)
        await asyncio.gather(*waiters)
        return time.monotonic() - began

    assert asyncio.run(main()) < 8  # a second or two; it was half a minute


def test_news_that_nobody_comes_for_is_forgotten(
    hearing: Ear, subscriptions: list[Subscription], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "KEEP", 0.1)
    for token in TOKENS[:100]:
        subscriptions[0].say(token)
    until(lambda: len(hearing._flights) == 100 or not hearing._flights)
    until(lambda: not hearing._flights)
    assert not hearing._told


def test_news_that_came_before_its_waiter_is_heard(hearing: Ear, subscriptions: list[Subscription]) -> None:
    subscriptions[0].say(TOKENS[0])
    until(lambda: hearing._flights)
    assert hearing.wait(TOKENS[0], 5) is News.NOT_SHARED


def test_who_leaves_leaves_nothing_behind(hearing: Ear) -> None:
    hearing.wait(TOKENS[0], 0.01)
    assert not hearing._flights


def test_a_subscription_that_died_silently_lets_its_waiters_go_and_is_made_anew(
    hearing: Ear, subscriptions: list[Subscription]
) -> None:
    subscriptions[0].alive = False
    waiter, news = waiting(hearing)
    waiter.join(5)

    assert news == [News.LOOK_AGAIN]
    until(lambda: subscriptions[0].closed)
    assert not hearing.listening
    assert hearing.listen().result(5)
    assert len(subscriptions) == 2


def test_a_subscription_that_answers_is_kept_and_asked_only_while_somebody_waits(
    hearing: Ear, subscriptions: list[Subscription]
) -> None:
    time.sleep(0.3)
    assert subscriptions[0].pings == 0

    waiter, news = waiting(hearing)
    until(lambda: subscriptions[0].pings > 3)
    subscriptions[0].say(TOKENS[0])
    waiter.join(5)
    assert news == [News.NOT_SHARED]

    time.sleep(0.2)
    asked = subscriptions[0].pings
    time.sleep(0.3)
    assert subscriptions[0].pings == asked
    assert len(subscriptions) == 1


def test_a_connection_that_the_client_made_anew_may_have_missed_something(
    hearing: Ear, subscriptions: list[Subscription]
) -> None:
    waiter, news = waiting(hearing)
    subscriptions[0].messages.put({"type": "subscribe", "data": 1})
    waiter.join(5)
    assert news == [News.LOOK_AGAIN]


def test_a_closed_ear_keeps_nobody_waiting_and_subscribes_no_more(hearing: Ear) -> None:
    waiter, news = waiting(hearing)
    hearing.close()
    waiter.join(5)

    assert news == [News.LOOK_AGAIN]
    began = time.monotonic()
    assert hearing.wait(TOKENS[0], 20) is None
    assert time.monotonic() - began < 5
    with pytest.raises(Unavailable, match="closed"):
        hearing.listen()


def test_many_who_need_it_at_once_make_one_subscription(often: None) -> None:
    made: list[Subscription] = []

    def subscribe(channel: str) -> Subscription:
        time.sleep(0.2)
        made.append(Subscription())
        return made[-1]

    hearing = Ear("channel", subscribe, lambda data: Heard(News.NOT_SHARED), lambda token: False)
    stands = [hearing.listen() for _ in range(50)]
    assert all(standing.result(5) for standing in stands)
    assert len(made) == 1
    hearing.close()


def test_without_a_thread_to_be_had_nobody_is_kept_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hearing = Ear("channel", lambda channel: Subscription(), lambda data: Heard(News.NOT_SHARED), lambda token: False)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert not hearing.listen().result(0)
    began = time.monotonic()
    assert hearing.wait(TOKENS[0], 20) is None
    assert time.monotonic() - began < 5
    assert hearing.listen().result(5)
    hearing.close()


def test_a_refused_subscription_is_said_once_and_not_asked_for_at_each_wait(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    asked: list[str] = []

    def subscribe(channel: str) -> Subscription:
        asked.append(channel)
        raise NoPermissionError("No permissions to access a channel")

    hearing = Ear("channel", subscribe, lambda data: Heard(News.NOT_SHARED), lambda token: False)
    for _ in range(3):
        assert not hearing.listen().result(5)
        until(lambda: hearing._standing is None)
    assert len(asked) == 1

    monkeypatch.setattr(hearing, "_deaf_until", 0.0)
    assert not hearing.listen().result(5)
    assert len(asked) == 2
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["Redis refuses a subscription"]


@pytest.fixture
def unheard() -> Iterator[str]:
    """The address of a user who has no right to any channel."""
    with Valkey() as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "resetchannels")
        yield f"redis://app:pw@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_users_without_a_right_to_channels_share_answers_all_the_same(
    unheard: str, colour: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    one, other = Store(Address((unheard,)), "site"), Store(Address((unheard,)), "site")
    ask = an_ask()

    async def perform(operation: Any) -> Any:
        return await other.aperform(operation) if colour == "async" else other.perform(operation)

    async def main() -> None:
        led = one.perform(Lead(ask, NO_STAMPS, since=0))
        held = await perform(Lead(ask, NO_STAMPS, since=0))
        assert isinstance(led, Led)
        assert isinstance(held, Held)
        began = time.monotonic()
        assert await perform(Wait(ask, held.token, held.seconds)) is News.LOOK_AGAIN
        assert 0.1 < time.monotonic() - began < 2
        entry = an_entry(ask)
        assert one.perform(Finish(ask, NO_STAMPS, led.token, entry=entry, keep=True, share=True))
        assert await perform(Lead(ask, NO_STAMPS, since=0)) == entry

    asyncio.run(main())
    one.close()
    other.close()
    assert not any("out of reach" in record.getMessage() for record in caplog.records)


def test_an_answer_is_kept_though_its_leader_may_not_publish(unheard: str) -> None:
    """Some of a fleet may have the right, and their ears are in the lease."""
    with Valkey() as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "resetchannels")
        mute = Store(Address((f"redis://app:pw@127.0.0.1:{server.port}/0",)), "site")
        hearing = Store(Address((server.url,)), "site")
        ask = an_ask()
        stamps = taken(mute, ask)
        led = mute.perform(Lead(ask, stamps, since=0))
        assert isinstance(hearing.perform(Lead(ask, stamps, since=0)), Held)
        assert hearing.ear.listening

        kept = an_entry(ask, stamps=stamps)
        assert mute.perform(Finish(ask, stamps, led.token, entry=kept, keep=True, share=True))
        assert hearing.perform(Look(ask)).entry is not None
        mute.close()
        hearing.close()


def test_an_async_waiter_needs_no_thread_of_its_loops_executor(store: Store, site: str) -> None:
    other = Store(Address((URL,)), site)
    ask = an_ask()
    led = other.perform(Lead(ask, NO_STAMPS, since=0))
    free = threading.Event()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, free.wait, 10)
        began = time.monotonic()
        held = await store.aperform(Lead(ask, NO_STAMPS, since=0))
        took = time.monotonic() - began
        assert isinstance(held, Held)
        assert store.ear.listening
        free.set()
        return took

    assert asyncio.run(main()) < 5
    other.perform(Finish(ask, NO_STAMPS, led.token))
    other.close()
