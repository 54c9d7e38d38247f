"""Who drives a flow that its caller reads from, and what becomes of one that is interrupted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any

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


class World:
    """A flow, what came of it, and how it is read in either colour."""

    def __init__(self, colour: str, pieces: list[bytes], leaving: Callable[[], Any] = lambda: None) -> None:
        self.colour = colour
        self.live = Live()
        self.live.open((), 1000)
        self.performed: list[Any] = []
        self.told: list[Any] = []
        self.ends: list[Any] = []
        self.leaving = leaving
        self.upstream = Source(0, "whole") if colour == "sync" else AsyncSource(0, "whole")
        own = Called(None, Opened(an_ask(), self.upstream))
        self.flow = self._flow(pieces)
        self.reading: Any = (Reading if colour == "sync" else AsyncReading)(
            self.flow, self.perform if colour == "sync" else self.aperform, Begin(Served("miss", own=own), self.live)
        )

    def _flow(self, pieces: list[bytes]) -> Generator[Any, Any, Served]:
        try:
            for piece in pieces:
                yield Give(piece)
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


def test_what_strikes_who_helps_is_not_raised_to_who_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Struck, "by", TimeoutError)
    world = World("sync", [b"1", Struck(b"2")])
    world.reading.begin(world.conclude)
    world.live.join()  # from now on a thread helps
    until(lambda: world.ends and not helps(), "nobody helps")
    world.reading.leave()
    assert not world.upstream.is_open


def test_on_another_event_loop_than_asyncios_a_stream_is_its_callers_untouched() -> None:
    class Untouched(AsyncSource):
        def taken(self) -> Any:
            return "the SDK's own"

    async def call() -> Called:
        return Called(None, Opened(an_ask(), Untouched(0, "whole")))

    with pytest.raises(StopIteration) as end:
        Cache(MemoryStore()).aserve(serve(an_ask()), call).send(None)
    served = end.value.value
    assert (served.status, served.reason, served.own.raw) == ("degraded", "no_event_loop", "the SDK's own")
