"""Who drives a flow that its caller reads from, and what becomes of one that is interrupted."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import FrameType
from typing import Any
from weakref import ref

import pytest

from aicache.cache import Cache
from aicache.core.flow import serve
from aicache.core.live import Live
from aicache.core.operations import Elapsed
from aicache.core.records import Called, Opened, Served
from aicache.core.streaming import Begin, Give, Left, Pull
from aicache.reading import AsyncReading, Reading
from aicache.testing.memory import MemoryStore
from tests.claude.together import until
from tests.core.test_passing import Source, an_ask

ANSWERED = Served("miss", stored=True)


class Struck(bytes):
    """A piece that interrupts who is about to keep it: neither the flow nor an operation is under way then."""

    by: type[BaseException] = KeyboardInterrupt

    def __bool__(self) -> bool:
        raise self.by


class Lease:
    """Held for as long as it lives."""


class World:
    """A flow, what came of it, and how it is read in either colour."""

    def __init__(self, colour: str, pieces: list[bytes | None], leaving: Callable[[], Any] = lambda: None) -> None:
        self.colour = colour
        self.live = Live()
        self.live.open((), 1000)
        self.performed: list[Any] = []
        self.told: list[Any] = []
        self.ends: list[Any] = []
        self.given = 0
        self.lease: Callable[[], Lease | None] = lambda: None
        self.leaving = leaving
        self.upstream = Source(0, "whole") if colour == "sync" else AsyncSource(0, "whole")
        own = Called(None, Opened(an_ask(), self.upstream))
        self.flow = self._flow(pieces)
        next(self.flow)
        self.reading: Any = (Reading if colour == "sync" else AsyncReading)(
            self.flow, self.perform if colour == "sync" else self.aperform, Begin(Served("miss", own=own), self.live)
        )

    def _flow(self, pieces: list[bytes | None]) -> Generator[Any, Any, Served]:
        lease = Lease()
        self.lease = ref(lease)
        try:
            yield Begin(ANSWERED, self.live)
            for piece in pieces:
                self.given += 1
                yield Elapsed() if piece is None else Give(piece)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.told.append(type(error))
            yield Elapsed()  # letting everybody go is an operation
            if not isinstance(error, Left):
                raise
        return ANSWERED

    def perform(self, operation: Any) -> Any:
        if isinstance(operation, Pull):
            return operation.upstream.pull()
        self.performed.append(type(operation))
        return self.leaving()

    async def aperform(self, operation: Any) -> Any:
        if isinstance(operation, Pull):
            return await operation.upstream.pull()
        self.performed.append(type(operation))
        return self.leaving()

    def conclude(self, end: Any) -> BaseException | None:
        self.ends.append(end)
        return end if isinstance(end, BaseException) else None


class AsyncSource(Source):
    async def pull(self) -> bytes | None:  # type: ignore[override]
        return super().pull()

    async def close(self) -> None:  # type: ignore[override]
        super().close()


def helps() -> bool:
    return any(thread.name == "aicache-stream" for thread in threading.enumerate())


def test_nothing_is_driven_before_its_end_can_be_told_in_a_thread() -> None:
    world = World("sync", [b"1", b"2"])
    world.live.join()
    reading = world.reading
    assert not helps()
    reading.begin(world.conclude)
    until(lambda: world.ends, "nobody helps")
    assert world.ends == [ANSWERED]
    assert [reading.read(), reading.read()] == [b"1", b"2"]


def test_nothing_is_driven_before_its_end_can_be_told_in_a_task() -> None:
    async def main() -> None:
        world = World("async", [b"1", b"2"])
        world.live.join()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        world.reading.begin(world.conclude)
        while not world.ends:
            await asyncio.sleep(0)
        assert world.ends == [ANSWERED]
        assert [await world.reading.read(), await world.reading.read()] == [b"1", b"2"]

    asyncio.run(main())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, TimeoutError])
def test_an_interruption_between_two_operations_ends_what_it_leads_in_a_thread(
    interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Struck, "by", interruption)
    world = World("sync", [b"1", Struck(b"2"), b"3"])
    world.reading.begin(world.conclude)
    assert world.reading.read() == b"1"
    with pytest.raises(interruption):
        world.reading.read()
    assert (world.told, world.performed) == ([interruption], [Elapsed])
    assert [type(end) for end in world.ends] == [interruption]
    assert not world.upstream.is_open
    assert world.reading.read() is None
    world.reading.leave()


def test_an_interruption_between_two_operations_ends_what_it_leads_in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Struck, "by", asyncio.CancelledError)

    async def main() -> World:
        world = World("async", [b"1", Struck(b"2"), b"3"])
        world.reading.begin(world.conclude)
        assert await world.reading.read() == b"1"
        with pytest.raises(asyncio.CancelledError):
            await world.reading.read()
        return world

    world = asyncio.run(main())
    assert (world.told, world.performed) == ([asyncio.CancelledError], [Elapsed])
    assert [type(end) for end in world.ends] == [asyncio.CancelledError]
    assert not world.upstream.is_open


def test_who_is_interrupted_as_it_leaves_is_told_so() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    world = World("sync", [b"1", b"2"], leaving=interrupt)
    world.reading.begin(world.conclude)
    assert world.reading.read() == b"1"
    with pytest.raises(KeyboardInterrupt):
        world.reading.leave()
    assert world.told == [Left]
    assert not world.upstream.is_open
    world.reading.leave()  # once


def test_who_leaves_what_has_been_collected_already_is_told_nothing() -> None:
    world = World("sync", [b"1", b"2"])
    world.reading.begin(world.conclude)
    assert world.reading.read() == b"1"
    world.flow.close()
    world.reading.leave()
    assert len(world.ends) == 1
    assert not world.upstream.is_open


def test_what_strikes_who_helps_is_not_raised_to_who_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Struck, "by", TimeoutError)
    world = World("sync", [b"1", Struck(b"2")])
    world.reading.begin(world.conclude)
    world.live.join()  # from now on a thread helps
    until(lambda: world.ends and not helps(), "nobody helps")
    world.reading.leave()
    assert not world.upstream.is_open


def test_what_strikes_a_task_is_its_loops_though_its_caller_has_left() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        world.reading.begin(world.conclude)
        assert await world.reading.read() == b"1"
        await world.reading.leave()

    with asyncio.Runner() as runner:
        world = runner.run(worlds("async", [b"1", b"2"], interrupt))
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
    assert not world.upstream.is_open


async def worlds(*made: Any) -> World:
    return World(*made)


def once(error: BaseException) -> Callable[[], None]:
    left = [error]

    def strike() -> None:
        if left:
            raise left.pop()

    return strike


@pytest.mark.parametrize("between", [True, False], ids=["between two operations", "in one"])
@pytest.mark.parametrize("reads", [True, False], ids=["its caller", "a thread that helps"])
def test_an_interruption_holds_nothing_that_the_flow_held(
    reads: bool, between: bool, monkeypatch: pytest.MonkeyPatch, uncollected: None
) -> None:
    monkeypatch.setattr(Struck, "by", TimeoutError)
    world = World("sync", [b"1", Struck(b"2") if between else None, b"3"], once(TimeoutError()))
    world.reading.begin(world.conclude)
    if reads:
        assert world.reading.read() == b"1"
        with suppress(TimeoutError):
            world.reading.read()
    else:
        world.live.join()
        until(lambda: world.ends and not helps(), "nobody helps")
        world.reading.leave()
    world.ends.clear()
    assert world.lease() is None


@pytest.mark.parametrize("between", [True, False], ids=["between two operations", "in one"])
def test_a_stream_that_is_read_for_nobody_holds_nothing_when_its_loop_has_ended(
    between: bool, monkeypatch: pytest.MonkeyPatch, uncollected: None
) -> None:
    monkeypatch.setattr(Struck, "by", asyncio.CancelledError)

    async def main() -> World:
        world = World("async", [b"1", Struck(b"2") if between else None], once(asyncio.CancelledError()))
        world.reading.begin(lambda end: None)
        await world.reading.run()
        return world

    world = asyncio.run(main())
    assert world.lease() is None


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is dropped is gone by itself, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_how_it_ended_is_told_once_whoever_is_interrupted_by_that() -> None:
    def conclude(end: Any) -> None:
        world.ends.append(end)
        raise KeyboardInterrupt

    world = World("sync", [b"1"])
    world.reading.begin(conclude)
    assert world.reading.read() == b"1"
    with pytest.raises(KeyboardInterrupt):
        world.reading.read()
    world.reading.leave()
    assert world.ends == [ANSWERED]


def test_of_a_stream_that_is_kept_nowhere_the_next_is_read_as_soon_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aicache.reading.tasks.AHEAD", 2)

    async def main() -> None:
        world = World("async", [b"%d" % at for at in range(9)])
        world.live.outgrown = True
        world.reading.begin(world.conclude)
        world.live.join()
        for read in range(3):
            await driven()
            assert world.given == 3 + read
            assert await world.reading.read() == b"%d" % read
        await world.reading.leave()

    async def driven() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("followed", [True, False])
def test_wherever_a_thread_is_interrupted_it_can_leave_and_nothing_stays(followed: bool) -> None:
    """At each line that takes the turn or gives it back, but where a lock is about to be let go of by Python itself."""
    for at in count(1):
        world = World("sync", [b"1", b"2"])
        world.reading.begin(world.conclude)
        if followed:
            world.live.join()
        with interrupting(at, world.reading) as struck:
            with suppress(KeyboardInterrupt):
                while world.reading.read() is not None:
                    pass
            with suppress(KeyboardInterrupt):
                world.reading.leave()
        if not struck:
            break
        world.reading.leave()
        until(lambda: world.reading.is_done, lambda: f"nobody goes on after {struck}")  # noqa: B023 - at once
        assert len(world.ends) == 1, struck
    assert at > 20


@contextmanager
def interrupting(nth: int, reading: Reading) -> Iterator[list[str]]:
    """This thread, once, as it is to run its nth line of these."""
    struck: list[str] = []
    lines = count(1)

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and not reading._moved._lock.locked() and next(lines) == nth:  # type: ignore[attr-defined]
            struck.append(f"line {frame.f_lineno} of {frame.f_code.co_name}")
            raise KeyboardInterrupt
        return local

    def called(frame: FrameType, event: str, _: Any) -> Any:
        takes_turns = frame.f_code.co_name in ("_driving", "_drives_no_more", "read", "leave")
        return local if takes_turns and frame.f_code.co_filename.endswith("threads.py") else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield struck
    finally:
        sys.settrace(before)


def test_on_another_event_loop_than_asyncios_a_stream_is_its_callers_untouched() -> None:
    class Untouched(AsyncSource):
        def taken(self) -> Any:
            return "the SDK's own"

    async def call(form: str) -> Called:
        return Called(None, Opened(an_ask(), Untouched(0, "whole")))

    with pytest.raises(StopIteration) as end:
        Cache(MemoryStore()).aserve(serve(an_ask()), call).send(None)
    served = end.value.value
    assert (served.status, served.reason, served.own.raw) == ("degraded", "no_event_loop", "the SDK's own")
