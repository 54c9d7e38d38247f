"""Receivers: how they are told, and how they are kept from standing in anybody's way."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.dispatch import receiver

import aicache
from aicache.frame import OUTSIDE, current
from aicache.signals import Event, asettle, call_ended, settle, soon


@pytest.fixture
def event() -> Event:
    return Event("something")


async def atell(event: Event, **told: Any) -> None:
    await asettle(event.begin(**told))


TELL: dict[str, Callable[..., Any]] = {
    "sync": lambda event, **told: event.tell(**told),
    "async": lambda event, **told: asyncio.run(atell(event, **told)),
}
COLOURS = pytest.mark.parametrize("tell", TELL.values(), ids=TELL)


class Told:
    """Remembers what it was told, and where."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.threads: list[int] = []
        self.loops: list[Any] = []
        self.error = error

    def hear(self, **told: Any) -> None:
        self.told.append(told)
        self.threads.append(threading.get_ident())
        try:
            self.loops.append(asyncio.get_running_loop())
        except RuntimeError:
            self.loops.append(None)
        if self.error is not None:
            raise self.error

    async def ahear(self, **told: Any) -> None:
        await asyncio.sleep(0)
        self.hear(**told)


@COLOURS
def test_sync_and_async_receivers_are_told_with_the_signal_that_they_are_connected_to(event: Event, tell: Any) -> None:
    one, other = Told(), Told()
    event.connect(one.hear)
    event.connect(other.ahear)
    tell(event, words="hello")
    assert one.told == other.told == [{"signal": event, "sender": None, "words": "hello"}]


@COLOURS
def test_a_receiver_is_told_once_however_often_it_was_connected(event: Event, tell: Any) -> None:
    told = Told()
    for _ in range(2):
        event.connect(told.hear)
        event.connect(told.ahear, dispatch_uid="mine")
    tell(event)
    assert len(told.told) == 2
    event.disconnect(told.hear)
    event.disconnect(dispatch_uid="mine")
    tell(event)
    assert len(told.told) == 2
    assert not event.is_heard


def test_djangos_decorator_connects(event: Event) -> None:
    told = []

    @receiver(event)
    def hear(**given: Any) -> None:
        told.append(given)

    event.tell(number=1)
    assert told[0]["number"] == 1


def test_it_is_heard_while_somebody_who_lives_is_connected(event: Event) -> None:
    assert not event.is_heard
    told = Told()
    event.connect(told.hear)
    assert event.is_heard
    del told
    gc.collect()
    assert not event.is_heard
    event.tell()


class TestInAsyncCode:
    def test_a_sync_receiver_is_called_in_the_task_itself(self, event: Event) -> None:
        told = Told()
        event.connect(told.hear)
        asyncio.run(atell(event))
        assert told.threads == [threading.get_ident()]
        assert told.loops != [None]

    def test_an_async_receiver_is_awaited_on_the_same_loop(self, event: Event) -> None:
        told = Told()
        event.connect(told.ahear)

        async def main() -> Any:
            await atell(event)
            assert len(told.told) == 1
            return asyncio.get_running_loop()

        assert told.loops == [asyncio.run(main())]

    def test_async_receivers_run_beside_each_other(self, event: Event) -> None:
        both = asyncio.Barrier(2)

        async def one(**_: Any) -> None:
            await asyncio.wait_for(both.wait(), 30)

        async def other(**_: Any) -> None:
            await asyncio.wait_for(both.wait(), 30)

        event.connect(one)
        event.connect(other)
        asyncio.run(atell(event))
        assert not event._failing

    def test_sync_code_in_a_running_loop_leaves_them_to_the_loop(self, event: Event) -> None:
        told = Told()
        event.connect(told.ahear)

        async def main() -> Any:
            event.tell()
            assert not told.told
            while not told.told:
                await asyncio.sleep(0)
            return asyncio.get_running_loop()

        assert told.loops == [asyncio.run(main())]

    def test_who_is_cancelled_cancels_them(self, event: Event, caplog: pytest.LogCaptureFixture) -> None:
        begun = asyncio.Event()

        async def never(**_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        event.connect(never)

        async def main() -> None:
            task = asyncio.create_task(atell(event))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert not caplog.records

    def test_one_that_is_cancelled_by_itself_does_not_cancel_who_tells(
        self, event: Event, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = Told(asyncio.CancelledError())
        event.connect(told.ahear)
        asyncio.run(atell(event))
        assert "ahear fails, a receiver of something" in caplog.text

    def test_on_another_kind_of_loop_they_are_awaited_too(self, event: Event) -> None:
        """As on trio's: no loop of asyncio's runs."""
        told = []

        async def hear(**given: Any) -> None:
            told.append(given)

        event.connect(hear)
        with pytest.raises(StopIteration):
            atell(event).send(None)
        assert len(told) == 1
        assert not soon(event.begin())


class TestInSyncCode:
    def test_a_sync_receiver_is_called_in_the_thread_itself(self, event: Event) -> None:
        told = Told()
        event.connect(told.hear)
        event.tell()
        assert told.threads == [threading.get_ident()]
        assert told.loops == [None]

    def test_an_async_receiver_is_awaited_too(self, event: Event) -> None:
        told = Told()
        event.connect(told.ahear)
        event.tell()
        assert len(told.told) == 1

    def test_what_an_async_receiver_does_in_sync_code_happens_in_the_thread_of_who_tells(self, event: Event) -> None:
        """As with Django's own signals: its database connection is the caller's."""
        threads = []

        async def hear(**_: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())

        event.connect(hear)
        event.tell()
        assert threads == [threading.get_ident()]

    def test_below_async_code_it_is_awaited_on_the_loop_that_is_there(self, event: Event) -> None:
        told = Told()
        event.connect(told.ahear)

        async def main() -> Any:
            await sync_to_async(event.tell)()
            return asyncio.get_running_loop()

        assert told.loops == [asyncio.run(main())]

    def test_in_a_thread_of_our_own_that_took_over_a_context_it_is_awaited(self, event: Event) -> None:
        told = Told()
        event.connect(told.ahear)

        async def main() -> None:
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(event.tell,))
            thread.start()
            await asyncio.to_thread(thread.join, 30)

        async_to_sync(main)()
        assert len(told.told) == 1

    def test_settling_nothing_makes_no_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aicache.signals.async_to_sync", None)
        settle([])


class TestOneThatRaises:
    @COLOURS
    def test_is_nobodys_business_but_the_logs(self, event: Event, tell: Any, caplog: pytest.LogCaptureFixture) -> None:
        failing, other, another = Told(LookupError("broken")), Told(), Told()
        for hear in (failing.hear, other.hear, failing.ahear, another.ahear):
            event.connect(hear)
        tell(event)
        assert len(other.told) == len(another.told) == 1
        assert {(record.name, record.levelname) for record in caplog.records} == {("aicache.signals", "ERROR")}
        assert sorted(record.getMessage() for record in caplog.records) == [
            "tests.test_signals.Told.ahear fails, a receiver of something",
            "tests.test_signals.Told.hear fails, a receiver of something",
        ]
        assert all(record.exc_info and record.exc_info[0] is LookupError for record in caplog.records)

    @COLOURS
    @pytest.mark.parametrize("name", ["hear", "ahear"])
    def test_is_logged_once_until_it_works_again(
        self, event: Event, tell: Any, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        told = Told(LookupError("broken"))
        event.connect(getattr(told, name))
        for _ in range(3):
            tell(event)
        assert len(caplog.records) == 1
        told.error = None
        tell(event)
        told.error = LookupError("again")
        tell(event)
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["broken", "again"]

    def test_is_logged_though_it_has_no_name(self, event: Event, caplog: pytest.LogCaptureFixture) -> None:
        class Thing:
            def __call__(self, **_: Any) -> None:
                raise LookupError

        fail = functools.partial(Told(LookupError()).hear)
        event.connect(fail)
        event.connect(thing := Thing())
        event.tell()
        assert thing is not None
        assert ["functools.partial" in record.getMessage() for record in caplog.records] == [True, False]
        assert "Thing" in caplog.records[1].getMessage()

    def test_for_who_takes_no_arguments_too(self, event: Event, caplog: pytest.LogCaptureFixture) -> None:
        def mistaken() -> None: ...

        async def amistaken() -> None: ...

        event.connect(mistaken)
        event.connect(amistaken)
        event.tell()
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [TypeError, TypeError]

    def test_what_interrupts_a_process_is_let_through(self, event: Event) -> None:
        told = Told(KeyboardInterrupt())
        event.connect(told.hear)
        with pytest.raises(KeyboardInterrupt):
            event.tell()


class TestOneThatCausesWhatItIsToldOf:
    def test_is_not_told_of_it(self, event: Event) -> None:
        told = []

        def hear(**_: Any) -> None:
            told.append(1)
            event.tell()

        event.connect(hear)
        event.tell()
        event.tell()
        assert told == [1, 1]

    def test_is_not_told_of_it_in_tasks_and_loops_either(self, event: Event) -> None:
        told = []

        async def hear(**_: Any) -> None:
            told.append(1)
            await atell(event)
            await sync_to_async(event.tell)()

        event.connect(hear)
        asyncio.run(atell(event))
        event.tell()
        assert told == [1, 1]

    def test_others_are(self, event: Event) -> None:
        other = Told()

        def hear(**_: Any) -> None:
            event.tell(caused=True)

        event.connect(hear)
        event.connect(other.hear)
        event.tell(caused=False)
        assert sorted(told["caused"] for told in other.told) == [False, True]


@COLOURS
def test_a_receiver_is_outside_of_the_scopes_of_whom_it_is_told_of(event: Event, tell: Any) -> None:
    frames = []

    def hear(**_: Any) -> None:
        frames.append(current())

    async def ahear(**_: Any) -> None:
        frames.append(current())

    event.connect(hear)
    event.connect(ahear)
    with aicache.scope(tenant="acme"):
        tell(event)
        assert current().tenant == "acme"
    assert frames == [OUTSIDE, OUTSIDE]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_process_that_was_forked_while_another_told_is_told_too(event: Event) -> None:
    told = Told()
    event.connect(told.hear)

    def child(heard: Any) -> None:
        event.tell()
        heard.send(len(told.told))

    parents, childs = multiprocessing.Pipe()
    with event.lock:  # as another thread may hold it
        process = multiprocessing.get_context("fork").Process(target=child, args=(childs,))
        process.start()
    assert parents.poll(30)
    assert parents.recv() == 1
    process.join(30)


def test_nothing_is_logged_of_one_that_works(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    event.connect(hear := Told().hear)
    with caplog.at_level(logging.DEBUG):
        event.tell()
    assert hear is not None
    assert not caplog.records


def test_the_signals_are_djangos() -> None:
    told = Told()
    call_ended.connect(told.hear)
    assert call_ended.disconnect(told.hear)
