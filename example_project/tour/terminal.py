"""Where the tour is shown: a terminal with colours and a line that changes, or plain lines."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from example_project.helpcentre.card import duration

FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
CLEAR: Final = "\r\x1b[2K"
COLUMNS: Final = 120  # where there is no terminal to be asked


class Terminal:
    """``columns``: how wide it is."""

    def __init__(self, stream: TextIO) -> None:
        self.columns = shutil.get_terminal_size((COLUMNS, 24)).columns
        self._stream = stream
        self._lives = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._lives and not os.environ.get("NO_COLOR")

    def say(self, line: str = "") -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()

    @contextmanager
    def under_way(self, what: str) -> Iterator[None]:
        """Shows that it goes on and for how long; nothing where lines cannot change."""
        if not self._lives:
            yield
            return
        over = threading.Event()
        ticking = threading.Thread(target=self._tick, args=(what, over), name="tour-progress", daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()
            self._stream.write(CLEAR)
            self._stream.flush()

    def _tick(self, what: str, over: threading.Event) -> None:
        began = time.monotonic()
        for number in range(10**9):
            frame = self.cyan(FRAMES[number % len(FRAMES)])
            self._stream.write(f"{CLEAR}{frame} {what} … {self.dim(duration(time.monotonic() - began))}")
            self._stream.flush()
            if over.wait(0.1):
                return

    def mark(self, good: bool) -> str:
        return self.green("✓") if good else self.red("✗")

    def bold(self, text: str) -> str:
        return self._in("1", text)

    def dim(self, text: str) -> str:
        return self._in("2", text)

    def red(self, text: str) -> str:
        return self._in("31", text)

    def green(self, text: str) -> str:
        return self._in("32", text)

    def cyan(self, text: str) -> str:
        return self._in("36", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text
