"""A fork waits for the database work that is under way, and not for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from aicache import forks
from aicache.forks import held_off

# The test runner has threads of its own, which a child of it does not use.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def fork() -> int:
    """→ the exit code of a child that does some work of its own."""
    pid = os.fork()
    if not pid:
        try:
            with held_off():
                os._exit(0 if forks._statements == 1 else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def work() -> Iterator[tuple[threading.Event, list[float]]]:
    """A thread that is in the middle of a statement, until it is told to end; and when it had."""
    began, end, ended = threading.Event(), threading.Event(), list[float]()

    def run() -> None:
        with held_off():
            began.set()
            end.wait(30)
            ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(30)
    yield end, ended
    end.set()
    thread.join(30)


def test_a_fork_waits_for_a_statement(work: tuple[threading.Event, list[float]]) -> None:
    end, ended = work
    threading.Timer(0.1, end.set).start()
    assert fork() == 0
    assert ended


def test_a_fork_does_not_wait_for_ever(
    work: tuple[threading.Event, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.1)
    _, ended = work
    began = time.monotonic()
    assert fork() == 0
    assert time.monotonic() - began >= forks.PATIENCE
    assert not ended


def test_a_statement_inside_one_does_not_wait_for_a_fork_that_waits_for_that_one() -> None:
    waits = threading.Event()

    def fork_begins() -> None:
        waits.set()
        forks._before_fork()
        forks._after_in_parent()

    with held_off():
        thread = threading.Thread(target=fork_begins)
        thread.start()
        assert waits.wait(30)
        while not forks._forks:
            time.sleep(0.001)
        began = time.monotonic()
        with held_off():
            assert time.monotonic() - began < forks.PATIENCE / 2
    thread.join(30)
    assert forks._statements == forks._forks == 0


def test_a_statement_waits_for_a_fork() -> None:
    forks._before_fork()
    done = threading.Event()

    def run() -> None:
        with held_off():
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not done.wait(0.05)
    forks._after_in_parent()
    assert done.wait(30)
    thread.join()
    assert forks._statements == forks._forks == 0
