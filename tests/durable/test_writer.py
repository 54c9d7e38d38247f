"""What nobody waits for is written all the same: in its turn, again where it could not be, and not for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError

from aicache.core.records import Answer, Entry
from aicache.durable import writer as module
from aicache.durable.writer import Writer, get_writer
from tests.claude.together import until

USING = "default"


def entry(body: bytes) -> Entry:
    return Entry("key", "tenant", Answer(body), 0.0, 1.0, 1.0)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    """It writes as fast as it can, wherever that is."""
    monkeypatch.setattr(module, "write", lambda using, act: act())
    monkeypatch.setattr(module, "leave", lambda **whole: None)
    monkeypatch.setattr(module, "in_memory", lambda using: False)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)
    return Writer()


class Locked:
    """Fails so many times."""

    def __init__(self, times: int, error: type[Exception] = OperationalError) -> None:
        self.times = times
        self.error = error
        self.done = threading.Event()
        self.tried = 0

    def __call__(self) -> None:
        self.tried += 1
        if self.tried <= self.times:
            raise self.error("database is locked")
        self.done.set()


def held(writer: Writer) -> Callable[[], None]:
    """Keeps it busy until what is returned is called."""
    begun, go_on = threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        assert go_on.wait(20)

    writer.put("held", None, act, using=USING)
    assert begun.wait(20)
    return go_on.set


def test_what_is_put_is_written_in_its_order(writer: Writer) -> None:
    written: list[int] = []
    for at in range(20):
        writer.put(str(at), None, lambda at=at: written.append(at), using=USING)  # type: ignore[misc]
    assert writer.flush(20)
    assert written == list(range(20))


def test_what_waits_is_found(writer: Writer) -> None:
    go_on = held(writer)
    writer.put("one", kept := entry(b"payload"), lambda: None, using=USING)
    assert (writer.waiting("one"), writer.waiting("another")) == (kept, None)
    go_on()
    assert writer.flush(20)
    assert writer.waiting("one") is None


def test_the_later_one_of_the_same_is_enough(writer: Writer) -> None:
    written: list[str] = []
    go_on = held(writer)
    for text in ("first", "second"):
        writer.put("one", entry(text.encode()), lambda text=text: written.append(text), using=USING)  # type: ignore[misc]
    assert writer.waiting("one") == entry(b"second")
    go_on()
    assert writer.flush(20)
    assert written == ["second"]


def test_a_lock_is_waited_for(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    locked = Locked(3)
    writer.put("one", None, locked, using=USING)
    assert writer.flush(20)
    assert locked.tried == 4
    assert [record.getMessage() for record in caplog.records] == [
        "copies of answers cannot be written now: database is locked",
        "copies of answers are written again",
    ]


def test_but_not_for_ever(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    hopeless, next_one = Locked(10**6), Locked(0)
    writer.put("one", None, hopeless, using=USING)
    writer.put("two", None, next_one, using=USING)
    assert writer.flush(20)
    assert (hopeless.tried, next_one.done.is_set()) == (1, True)


def test_what_can_never_be_written_is_not_tried_again(writer: Writer) -> None:
    wrong, next_one = Locked(10**6, IntegrityError), Locked(0)
    writer.put("one", None, wrong, using=USING)
    writer.put("two", None, next_one, using=USING)
    assert writer.flush(20)
    assert (wrong.tried, next_one.done.is_set()) == (1, True)


def test_no_more_waits_than_fits(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    go_on = held(writer)
    for at in range(5):
        writer.put(str(at), entry(b"1234"), lambda: None, using=USING)
    found: list[Any] = [writer.waiting(str(at)) for at in range(5)]
    assert found == [None] * 3 + [entry(b"1234")] * 2
    go_on()
    assert writer.flush(20)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_nothing_of_it_to_write(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_writer", writer)
    monkeypatch.setattr(module, "AT_EXIT", 30.0)
    go_on = held(writer)
    if not (child := os.fork()):
        module._flush()
        os._exit(0 if module._writer is None and not get_writer()._waiting else 1)
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), "it waits for what the parent writes", 20)
    go_on()
    assert writer.flush(20)


def test_without_a_thread_nothing_is_lost_yet(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        writer.put("one", None, lambda: None, using=USING)
    assert not writer.flush(0)
    writer.put("two", None, lambda: None, using=USING)
    assert writer.flush(20)
    assert len(caplog.records) == 2
