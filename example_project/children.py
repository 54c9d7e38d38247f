"""The processes that a command starts, and that must not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

ROOT: Final = Path(__file__).parents[1]
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE: Final = 5.0  # seconds that a child is given to end by itself


class Child(Protocol):
    def start(self) -> Any: ...

    def stop(self) -> None:
        """Harmless where it was never started, or has ended."""


ChildT = TypeVar("ChildT", bound=Child)


class Children:
    """Ends what it started when the ``with`` block ends: done, failed, Ctrl-C, SIGTERM, or a terminal that was closed.

    Each such signal is one KeyboardInterrupt; never between a child's birth and its being known here, nor during the
    ending. For the main thread.
    """

    def __init__(self) -> None:
        self._known: list[Child] = []
        self._deferring = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in ENDINGS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deferring = True
        try:
            for child in reversed(self._known):
                child.stop()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def start(self, child: ChildT) -> ChildT:
        with self._deferred():
            self._known.append(child)
            child.start()
        return child

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self._deferring:
            self._deferring = True
            raise KeyboardInterrupt

    @contextmanager
    def _deferred(self) -> Iterator[None]:
        self._deferring = True
        yield
        self._deferring = self._asked
        if self._asked:
            raise KeyboardInterrupt


class Command:
    """``python manage.py …`` in a process of its own, with ``environment`` added to ours."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], **more: Any) -> None:
        self._arguments = [sys.executable, str(ROOT / "manage.py"), *arguments]
        self._more = {"cwd": ROOT, "env": {**os.environ, **environment}, **more}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._arguments, text=True, **self._more)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "start() it first"
        return self._process


def end(process: subprocess.Popen[str]) -> None:
    """Asks a process to end, and makes it end if it does not."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written has no reader any more
                pipe.close()
