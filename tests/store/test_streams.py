"""What one process reads of a stream, others read too: two stores are two processes here, with nothing in common."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from aicache.core.live import BROKEN, Ended, Last, Live
from aicache.core.operations import Capture, Finish, Lead, Unavailable, Wait
from aicache.core.records import NO_STAMPS, Answer, Ask, Entry
from aicache.core.streaming import Check, Ending, Leave, Outgrow, Share, Tail, Unfollow
from aicache.core.tags import hanging, of_answer
from aicache.core.turns import Held, Led, News
from aicache.store import Address, Store, streams, voice
from aicache.testing.memory import MemoryStore
from aicache.testing.valkey import Valkey
from tests.store.conftest import URL, an_ask, an_entry, names_of
from tests.store.servers import until

HEADERS = (("request-id", "req_1"), ("x", "ü"))
PRICES = hanging(["prices"], an_ask().tenant)
EVENTS = [f"event: {number}\ndata: {'x' * number}\n\n".encode() for number in range(50)]


def asking(**changes: Any) -> Ask:
    return an_ask(**{"streams": True, "live": True, **changes})


@pytest.fixture
def other(site: str) -> Iterator[Store]:
    other = Store(Address((URL,)), site)
    yield other
    other.close()


class Perform:
    """What one store does, called or awaited on a loop of its own."""

    def __init__(self, store: Any, colour: str) -> None:
        self.store = store
        self._runner = asyncio.Runner() if colour == "async" else None

    def __call__(self, operation: Any) -> Any:
        if self._runner is None:
            return self.store.perform(operation)
        return self._runner.run(self.store.aperform(operation))

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


@pytest.fixture(params=["sync", "async"])
def there(request: pytest.FixtureRequest, other: Store) -> Iterator[Perform]:
    """The other process, of either colour."""
    perform = Perform(other, request.param)
    yield perform
    perform.close()


class Leading:
    """A leader, and what it has read."""

    def __init__(self, store: Any, ask: Ask | None = None, most: int = 100_000) -> None:
        self.store, self.ask = store, ask or asking()
        led = store.perform(Lead(self.ask, NO_STAMPS, since=0, refresh=True))
        assert isinstance(led, Led)
        self.led, self.token = led, led.token
        self.live: Live = store.perform(Share(self.ask, NO_STAMPS, led.token, aloud=self.ask.live))
        self.live.open(HEADERS, most, aloud=self.ask.live)
        self.read = b""

    def reads(self, *events: bytes) -> Leading:
        for event in events:
            self.read += event
            self.live.feed(event)
        return self

    def of(self, kind: type, *more: Any) -> Any:
        return kind(self.ask, NO_STAMPS, self.token, *more)

    def entry(self, tail: bytes = b"") -> Entry:
        return replace(an_entry(self.ask), answer=Answer(b"{}", events=self.read + tail))

    def ends(self, how: Any = "whole", tail: bytes = b"", **changes: Any) -> Any:
        return self.store.perform(
            Finish(self.ask, NO_STAMPS, self.token, ending=Ending(how, self.live, tail), **changes)
        )


def joined(perform: Callable[[Any], Any], leading: Leading) -> Live:
    """As a flow does: told to wait, waits, and reads."""
    held = perform(Lead(leading.ask, NO_STAMPS, since=0, refresh=True))
    assert isinstance(held, Held)
    live = perform(Wait(leading.ask, held.token, 20, NO_STAMPS))
    assert isinstance(live, Live)
    return live


def read(perform: Callable[[Any], Any], leading: Leading, live: Live, until: int | None = None) -> bytes | Last:
    """So many bytes, or all to the end."""
    got, deadline = b"", time.monotonic() + 20
    while until is None or len(got) < until:
        assert time.monotonic() < deadline, got
        piece = perform(Tail(live, live.start + len(got)))
        if isinstance(piece, Last):
            return replace(piece, piece=got + piece.piece)
        if piece is None:
            perform(leading.of(Check, live))
        else:
            got += piece
    return got


def test_another_process_reads_all_from_the_first_byte_on_as_it_comes(store: Store, there: Perform) -> None:
    leading = Leading(store).reads(*EVENTS[:3])
    live = joined(there, leading)
    assert live.headers == HEADERS
    assert read(there, leading, live, len(leading.read)) == leading.read
    leading.reads(*EVENTS[3:20])
    assert read(there, leading, live, len(leading.read)) == leading.read

    entry = leading.entry(EVENTS[20])
    assert leading.ends(tail=EVENTS[20], entry=entry, keep=True, share=True)
    assert read(there, leading, live) == Last(entry.answer.events, Ended("whole", entry))


def test_who_waits_before_it_has_begun_is_told_as_it_begins(store: Store, there: Perform) -> None:
    led = store.perform(Lead(asking(), NO_STAMPS, since=0))
    assert isinstance(led, Led)
    assert there(Wait(asking(), led.token, 0.05, NO_STAMPS)) is News.LOOK_AGAIN
    live: Live = store.perform(Share(asking(), NO_STAMPS, led.token, aloud=True))
    live.open(HEADERS, 1000)
    assert there(Wait(asking(), led.token, 0.05, NO_STAMPS)) is News.LOOK_AGAIN
    there(Lead(asking(), NO_STAMPS, since=0))
    live.feed(EVENTS[5])
    found = there(Wait(asking(), led.token, 20, NO_STAMPS))
    assert isinstance(found, Live)
    assert there(Tail(found, found.start)) == EVENTS[5]


@pytest.mark.parametrize("how", ["failed", "cut", "broken", "timeout", "whole"])
def test_an_end_that_leaves_no_answer_is_told_with_its_last_bytes(store: Store, there: Perform, how: Any) -> None:
    leading = Leading(store).reads(*EVENTS[:10])
    live = joined(there, leading)
    assert leading.ends(how, tail=EVENTS[10])
    assert read(there, leading, live) == Last(leading.read + EVENTS[10], Ended(how))


def test_who_only_waits_hears_where_a_stream_broke_off(store: Store, there: Perform) -> None:
    plain = an_ask()
    leading = Leading(store).reads(*EVENTS[:3])
    assert isinstance(there(Lead(plain, NO_STAMPS, since=0)), Held)
    leading.ends("broken")
    assert there(Wait(plain, leading.token, 20, NO_STAMPS)) is News.BROKE_OFF


@pytest.mark.parametrize("asked", [asking(tags=PRICES), an_ask(tags=PRICES)], ids=["streamed", "plain"])
@pytest.mark.parametrize("died", ["by a tag", "by itself"])
def test_an_answer_that_died_on_its_way_is_told_as_one_that_is_not_kept(
    store: Store, there: Perform, asked: Ask, died: str
) -> None:
    stamps = store.perform(Capture(asked))
    led = store.perform(Lead(asked, stamps, since=0))
    there(Lead(asked, stamps, since=0))
    with ThreadPoolExecutor() as pool:
        heard = [pool.submit(perform, Wait(asked, led.token, 20, stamps)) for perform in (store.perform, there)]
        until(lambda: all(led.token in who.ear._flights for who in (store, there.store)))
        store.stamp(PRICES if died == "by a tag" else [of_answer(asked.lineage, asked.key, asked.tenant)])
        assert not store.perform(Finish(asked, stamps, led.token, entry=an_entry(asked), keep=True, share=True))
    for entry in [future.result() for future in heard]:
        assert isinstance(entry, Entry)
        assert entry.dies_at <= entry.stored_at


def test_an_answer_that_is_too_large_to_be_told_is_found_where_it_is_kept(
    store: Store, there: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicache.store.news.MOST_TOLD", 100)
    leading = Leading(store).reads(*EVENTS[:10])
    live = joined(there, leading)
    entry = leading.entry(EVENTS[10])
    assert leading.ends(tail=EVENTS[10], entry=entry, keep=True, share=True)
    assert read(there, leading, live) == Last(entry.answer.events, Ended("whole", entry))


def test_what_is_evicted_is_told_again(store: Store, there: Perform, server: redis.Redis) -> None:
    leading = Leading(store).reads(*EVENTS[:10])
    live = joined(there, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    assert server.delete(names_of(store, leading.ask)[2]) == 1
    leading.reads(*EVENTS[10:20])
    assert read(there, leading, live, len(leading.read)) == leading.read
    late = Store(store.connections.address, store.connections._site)
    assert read(late.perform, leading, joined(late.perform, leading), len(leading.read)) == leading.read
    late.close()


def test_a_leader_that_is_gone_breaks_the_stream_for_those_who_read_it(
    store: Store, there: Perform, server: redis.Redis
) -> None:
    leading = Leading(store).reads(*EVENTS[:10])
    live = joined(there, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    server.delete(*names_of(store, leading.ask))
    assert read(there, leading, live) == Last(leading.read, Ended("broken"))


def test_who_comes_after_it_broke_off_waits_for_what_becomes_of_its_leader(store: Store, there: Perform) -> None:
    leading = Leading(store).reads(*EVENTS[:3])
    live = joined(there, leading)
    live.end(BROKEN)
    there(Lead(leading.ask, NO_STAMPS, since=0, refresh=True))
    with ThreadPoolExecutor() as pool:
        heard = pool.submit(there, Wait(leading.ask, leading.token, 20, NO_STAMPS))
        until(lambda: leading.token in there.store.ear._flights)
        leading.ends(entry=leading.entry(), keep=True, share=True)
        assert isinstance(heard.result(), Entry)


def test_another_leaders_stream_is_never_taken_for_it(store: Store, there: Perform, server: redis.Redis) -> None:
    leading = Leading(store).reads(*EVENTS[:10])
    live = joined(there, leading)
    server.delete(names_of(store, leading.ask)[0])
    third = Store(store.connections.address, store.connections._site)
    successor = Leading(third).reads(*reversed(EVENTS[:30]))
    assert successor.ends(entry=successor.entry(), keep=True, share=True)
    leading.reads(*EVENTS[10:12])  # it does not know yet
    assert read(there, leading, live) == Last(leading.read[: len(read_bytes(live))], Ended("broken"))
    third.close()


def read_bytes(live: Live) -> bytes:
    return live.since(live.start) or b""


def deafen(store: Store) -> None:
    """Its connection dies, and it has heard so."""
    if (pubsub := store.ear._pubsub) is not None:
        pubsub.connection._sock.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 10
    while store.ear.listening:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_of_one_that_has_outgrown_its_limit_what_was_missed_is_lost(store: Store, there: Perform) -> None:
    leading = Leading(store, most=100).reads(*EVENTS[:4])
    live = joined(there, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    leading.reads(*EVENTS[4:8])
    store.perform(leading.of(Outgrow))
    until_told(store, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    before = leading.read
    deafen(there.store)
    leading.reads(EVENTS[8])
    until_told(store, leading)
    deadline = time.monotonic() + 10
    while not there.store.ear.listening:
        assert time.monotonic() < deadline
        there(leading.of(Check, live))
        time.sleep(0.005)
    leading.reads(EVENTS[9])
    assert read(there, leading, live) == Last(before, Ended("broken"))


def until_told(store: Store, leading: Leading) -> None:
    deadline = time.monotonic() + 10
    while store.streams._voice.told_to(leading.token) != leading.live.position:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_is_heard_while_it_is_asked_for_is_not_taken_twice(
    store: Store, there: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = Leading(store).reads(*EVENTS[:5])
    live = joined(there, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    tailing = streams._tailing

    def late(*asked: Any) -> Any:
        """Between the question's being made and its being asked the next piece is heard."""
        made, before = tailing(*asked), live.position
        leading.reads(EVENTS[5])
        deadline = time.monotonic() + 10
        while live.position == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return made

    monkeypatch.setattr(streams, "_tailing", late)
    live.checked = 0.0
    there(leading.of(Check, live))
    assert live.since(live.start) == leading.read


def test_what_was_missed_while_the_ear_was_deaf_is_asked_for(store: Store, there: Perform, server: redis.Redis) -> None:
    leading = Leading(store).reads(*EVENTS[:5])
    live = joined(there, leading)
    for _ in range(3):
        deafen(there.store)
        leading.reads(*EVENTS[5:10])
    assert read(there, leading, live, len(leading.read)) == leading.read
    deafen(there.store)
    entry = leading.entry()
    assert leading.ends(entry=entry, keep=True, share=True)
    assert read(there, leading, live) == Last(leading.read, Ended("whole", entry))


def test_a_lease_for_which_nobody_waits_is_let_go_of(store: Store, there: Perform, server: redis.Redis) -> None:
    leading = Leading(store).reads(*EVENTS[:5])
    live = joined(there, leading)
    assert store.perform(leading.of(Leave)) is True
    there(leading.of(Unfollow, live))
    assert store.perform(leading.of(Leave)) is False
    assert not server.exists(*names_of(store, leading.ask)[::2])
    assert not store.leads(leading.token)
    assert isinstance(there(Lead(leading.ask, NO_STAMPS, since=0)), Led)


def test_who_has_waited_long_enough_does_not_count_as_one_who_waits(store: Store, there: Perform) -> None:
    leading = Leading(store, asking(live=False))
    assert isinstance(there(Lead(leading.ask, NO_STAMPS, since=0)), Held)
    assert there(Wait(leading.ask, leading.token, 0.01, NO_STAMPS)) is News.LOOK_AGAIN
    assert store.perform(leading.of(Leave)) is False


def test_who_is_interrupted_as_it_waits_counts_no_more(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = Leading(store, asking(live=False))
    other.perform(Lead(leading.ask, NO_STAMPS, since=0))

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(other.ear, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.perform(Wait(leading.ask, leading.token, 20, NO_STAMPS))
    assert store.perform(leading.of(Leave)) is False


def test_who_will_not_wait_does_not_count_as_one_who_does(store: Store, there: Perform) -> None:
    leading = Leading(store)
    assert isinstance(there(Lead(leading.ask, NO_STAMPS, since=0, waits=False)), Held)
    assert store.perform(leading.of(Leave)) is False


def test_a_task_that_is_cancelled_as_it_waits_counts_no_more(store: Store, other: Store) -> None:
    leading = Leading(store, asking(live=False))

    async def main() -> None:
        await other.aperform(Lead(leading.ask, NO_STAMPS, since=0))
        waiter = asyncio.create_task(other.aperform(Wait(leading.ask, leading.token, 20, NO_STAMPS)))
        waiting.append(waiter)
        await asyncio.sleep(0.01)  # it may be anywhere

    waiting: list[asyncio.Task[Any]] = []
    asyncio.run(main())  # cancels it as it ends
    assert waiting[0].cancelled()
    assert store.perform(leading.of(Leave)) is False


def test_of_one_that_outgrows_its_limit_the_end_is_read_by_those_who_are_on_it(
    store: Store, there: Perform, server: redis.Redis
) -> None:
    leading = Leading(store, most=100).reads(*EVENTS[:4])
    live = joined(there, leading)
    assert read(there, leading, live, len(leading.read)) == leading.read
    leading.reads(*EVENTS[4:8])
    assert leading.live.outgrown
    store.perform(leading.of(Outgrow))
    until_told(store, leading)
    assert there(Lead(leading.ask, NO_STAMPS, since=0)) is News.NOT_SHARED
    leading.reads(*EVENTS[8:])
    assert read(there, leading, live, len(leading.read)) == leading.read
    assert not server.exists(names_of(store, leading.ask)[2])
    assert leading.ends(tail=b"end")
    assert read(there, leading, live) == Last(leading.read + b"end", Ended("whole"))


def test_the_leaders_memory_and_its_readers_are_bounded(store: Store, there: Perform) -> None:
    leading = Leading(store, most=1000).reads(EVENTS[1])
    live = joined(there, leading)
    for _ in range(40):
        leading.reads(b"x" * 16_384)
        there(Tail(live, live.position))
    assert len(leading.live._data) < 300_000
    assert len(live._data) < 300_000
    deadline = time.monotonic() + 20
    at = live.start + len(EVENTS[1])  # who stays behind is lost sooner or later, and hears of it
    while not isinstance(got := there(Tail(live, at)), Last):
        assert time.monotonic() < deadline
        leading.reads(b"x" * 16_384)
        time.sleep(0.005)  # for the threads that tell and hear
    assert got.ended == Ended("broken")


def test_nothing_is_left_in_redis_of_a_stream_that_has_ended(store: Store, there: Perform, server: redis.Redis) -> None:
    for entry in (True, False):
        leading = Leading(store).reads(*EVENTS[:5])
        live = joined(there, leading)
        leading.ends(**({"entry": leading.entry(), "share": True} if entry else {}))
        read(there, leading, live)
        lease, mark, live_key = names_of(store, leading.ask)
        assert not server.exists(lease, live_key)
        assert 0 < server.pttl(mark) < 10_000


def test_a_leader_hears_of_readers_elsewhere_though_it_reads_nothing(store: Store, there: Perform) -> None:
    followed: list[bool] = []
    leading = Leading(store, asking(live=False))
    leading.live.followed = lambda: followed.append(True)
    there(Lead(leading.ask, NO_STAMPS, since=0))
    assert store._renew([(names_of(store, leading.ask), leading.token)]) == [True]
    assert followed


def test_the_thread_that_tells_ends_when_there_is_nothing_to_tell(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "IDLE", 0.05)
    for _ in range(2):  # and begins again
        leading = Leading(store, asking(key=f"{_}" * 64)).reads(*EVENTS[:5])
        assert store.streams._voice._speaks
        leading.ends()
        deadline = time.monotonic() + 10
        while store.streams._voice._speaks:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_without_a_right_to_channels_a_stream_is_read_all_the_same() -> None:
    with Valkey() as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "resetchannels")
        address = Address((f"redis://app:pw@127.0.0.1:{server.port}/0",))
        one, other = Store(address, "site"), Store(address, "site")
        leading = Leading(one).reads(*EVENTS[:5])
        deadline = time.monotonic() + 10
        while not isinstance(live := other.perform(Wait(leading.ask, leading.token, 1, NO_STAMPS)), Live):
            assert time.monotonic() < deadline
        leading.reads(*EVENTS[5:10])
        assert read(other.perform, leading, live, len(leading.read)) == leading.read
        entry = leading.entry()
        assert leading.ends(entry=entry, keep=True, share=True)
        assert read(other.perform, leading, live) == Last(leading.read, Ended("whole", entry))
        one.close()
        other.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_store_in_memory_promises_the_same_within_its_process(colour: str) -> None:
    store = MemoryStore()
    perform = Perform(store, colour)
    leading = Leading(store).reads(*EVENTS[:3])
    live = joined(perform, leading)
    assert read(perform, leading, live, len(leading.read)) == leading.read
    assert perform(leading.of(Leave)) is True
    entry = leading.entry(EVENTS[3])
    assert leading.ends(tail=EVENTS[3], entry=entry, keep=True, share=True)
    assert read(perform, leading, live) == Last(entry.answer.events, Ended("whole", entry))
    perform(leading.of(Unfollow, live))

    again = Leading(store).reads(*EVENTS[:3])
    assert perform(again.of(Leave)) is False
    assert perform(again.of(Leave)) is False
    outgrown = Leading(store)
    perform(outgrown.of(Outgrow))
    assert perform(Lead(outgrown.ask, NO_STAMPS, since=0, refresh=True)) is News.NOT_SHARED
    perform.close()


def test_looking_at_a_silent_stream_again_and_again_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STEP", 0.001)
    leading = Leading(store).reads(*EVENTS[:3])
    at = leading.live.position

    async def main() -> int:
        for _ in range(100):
            assert await store.aperform(Tail(leading.live, at)) is None
        await asyncio.sleep(0)
        gc.collect()
        here = asyncio.get_running_loop()
        return sum(kept.get_loop() is here for kept in gc.get_objects() if type(kept) is asyncio.Future)

    assert asyncio.run(main()) < 10
    assert store.perform(Tail(leading.live, at)) is None
    assert not leading.live._waiting


def test_a_leader_whose_stream_outgrows_its_limit_does_not_wait_for_redis(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = Leading(store, asking(live=False), most=100)
    assert isinstance(other.perform(Lead(leading.ask, NO_STAMPS, since=0)), Held)
    leading.reads(*EVENTS[:8])
    run, here = store.connections.run, threading.get_ident()

    def elsewhere(*arguments: Any) -> Any:
        assert threading.get_ident() != here
        return run(*arguments)

    monkeypatch.setattr(store.connections, "run", elsewhere)
    store.perform(leading.of(Outgrow))
    assert other.perform(Wait(leading.ask, leading.token, 20, NO_STAMPS)) is News.NOT_SHARED
    assert other.perform(Lead(leading.ask, NO_STAMPS, since=0)) is News.NOT_SHARED


@pytest.mark.parametrize("aloud", [True, False])
def test_that_a_stream_has_outgrown_its_limit_is_told_again_where_redis_was_away(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch, aloud: bool
) -> None:
    monkeypatch.setattr(voice, "AGAIN", 0.01)
    leading = Leading(store, asking(live=aloud), most=100)
    say, away = store.streams._voice._say, [True] * 3

    def saying(wanted: Any) -> list[Any]:
        if away:
            away.pop()
            raise Unavailable("unreachable")
        return say(wanted)

    monkeypatch.setattr(store.streams._voice, "_say", saying)
    leading.reads(*EVENTS[:8])
    store.perform(leading.of(Outgrow))
    until(lambda: other.perform(Lead(leading.ask, NO_STAMPS, since=0, waits=False)) is News.NOT_SHARED)
    assert not away


def test_who_is_collected_leaves_in_the_middle_of_anything() -> None:
    """Garbage is collected wherever memory is asked for, such as where a stream is looked at."""
    live = Live()
    live.join()

    def collected() -> None:
        with live._lock:
            live.leave()

    thread = threading.Thread(target=collected, daemon=True)
    thread.start()
    thread.join(20)
    assert not live.is_followed_here
