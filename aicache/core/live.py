"""The events of a stream while it is under way: one writes them, any number read, each at its own pace."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal
from weakref import WeakSet

from aicache.core.records import Entry, Headers

How = Literal["whole", "cut", "failed", "broken", "timeout"]
"""``cut``: a clean end before a message's own. ``failed``: with an error as its last event."""

# A reader may be so far behind, whatever may be kept.
LEAST_WINDOW: Final = 64 * 1024
LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended; ``entry``: the answer that it came to, where that may be had."""

    how: How
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Last:
    """The last that a reader gets."""

    piece: bytes
    ended: Ended


BROKEN: Final = Ended("broken")


class Live:
    """Bytes that are only ever added to: first the headers, from ``start`` on the events. Safe for threads.

    Of a stream of more than ``most`` bytes only the end is remembered: ``outgrown``. Who reads more slowly than that
    forgets has lost it. ``begun``: done when there is something to read, or nothing will be. ``followed``: called when
    somebody besides the writer's own caller has come to depend on it; ``grown``: when it has grown. ``has_gap``: what
    was received last comes after what is missing. ``is_led_here``: by a flow of this process that is still at it.
    ``beats``: how often something came, if only a ping. For those who look after it, ``checked``: when they last did;
    ``missed``: its leader was not found then.
    """

    def __init__(self) -> None:
        self.begun: Future[None] = _unresolved()
        self.ended: Ended | None = None
        self.outgrown = False
        self.followed: Callable[[], None] | None = None
        self.grown: Callable[[], None] | None = None
        self.beats = 0
        self.checked = 0.0
        self.missed = self.has_gap = self.is_led_here = False
        self._lock = threading.RLock()  # whoever reads it may be collected, and leave, in the middle of anything here
        self._waiting: WeakSet[Future[None]] = WeakSet()  # for the next change
        self._data = bytearray()
        self._base = 0
        self._start = 0
        self._headers: Headers = ()
        self._most: float = float("inf")
        self._aloud = True
        self._here = self._elsewhere = 0

    # Writing

    def open(self, headers: Headers, most: int, *, aloud: bool = True) -> None:
        """By the leader, before anything else. Not ``aloud``, it does not begin for others before its end."""
        preface = json.dumps([headers, most], separators=(",", ":")).encode()
        with self._lock:
            self._headers, self._most, self._aloud = headers, most, aloud
            self._data += LENGTH.pack(len(preface)) + preface
            self._start = len(self._data)

    def feed(self, events: bytes) -> None:
        """Nothing shows that upstream is alive."""
        with self._lock:
            self._append(events)
        if (tell := self.grown) is not None:
            tell()

    def receive(self, at: int, data: bytes) -> bool:
        """What another process has fed, at its place. → whether nothing is missing before it. What no leader of this
        version can have fed is left alone."""
        with self._lock:
            if not self._start and not (at == 0 and self._read_preface(data)):
                self.has_gap = True
                self._change()
                return False
            missing = at - self.position
            self.has_gap = missing > 0
            if missing > 0:
                self._change()  # who reads here asks for it
                return False
            self._append(data[-missing:] if missing else data)
            return True

    def end(self, ended: Ended) -> None:
        """Once. What a whole answer has more than came so far is there too."""
        with self._lock:
            if self.ended is None:
                events = b"" if ended.entry is None else ended.entry.answer.events
                if events and self._start:
                    self._data += events[self.position - self._start :]
                self.ended = ended
                self._change()
                _resolve(self.begun)

    def doubt(self) -> None:
        """Something may have been missed: lets those who wait look for themselves."""
        with self._lock:
            self._change()

    # Reading

    @property
    def start(self) -> int:
        return self._start

    @property
    def position(self) -> int:
        """Of the next byte to come."""
        return self._base + len(self._data)

    @property
    def headers(self) -> Headers:
        return self._headers

    def take(self, at: int) -> bytes | Last | Future[None]:
        """What there is from ``at`` on; where that is nothing yet, what is done at the next change: the caller's own to
        wait for, and to drop."""
        with self._lock:
            if at < self._base:
                return Last(b"", BROKEN)
            piece = bytes(self._data[at - self._base :])
            if self.ended is not None:
                return Last(piece, self.ended)
            if not piece:
                change: Future[None] = Future()
                self._waiting.add(change)
                return change
            return piece

    @property
    def is_broken(self) -> bool:
        return self.ended == BROKEN

    @property
    def can_be_joined(self) -> bool:
        """Who has not begun to read one that broke off has a better one to wait for."""
        return self.begun.done() and not self.is_broken

    def since(self, at: int) -> bytes | None:
        """All from ``at`` on; None where some of it is forgotten."""
        with self._lock:
            return None if at < self._base else bytes(self._data[at - self._base :])

    # Who depends on it

    @property
    def is_followed(self) -> bool:
        return self._here > 0 or self._elsewhere > 0

    def join(self) -> None:
        """Somebody of this process waits for it, or reads it."""
        with self._lock:
            self._here += 1
        self._tell_followed()

    def leave(self) -> None:
        with self._lock:
            self._here -= 1

    def followed_elsewhere(self, processes: int) -> None:
        self._elsewhere = processes
        self._tell_followed()

    @property
    def is_followed_here(self) -> bool:
        return self._here > 0

    def _tell_followed(self) -> None:
        if self.is_followed and (tell := self.followed) is not None:
            tell()

    def _append(self, more: bytes) -> None:
        self.beats += 1
        self._data += more
        if self.position - self._start > self._most:
            self.outgrown = True
        window = max(self._most, LEAST_WINDOW)
        if self.outgrown and len(self._data) > 2 * window:
            gone = len(self._data) - int(window)
            del self._data[:gone]
            self._base += gone
        self._change()
        if self._aloud and self.position > self._start:
            _resolve(self.begun)

    def _read_preface(self, first: bytes) -> bool:
        """The first that is received has it whole."""
        try:
            (length,) = LENGTH.unpack_from(first)
            headers, most = json.loads(first[LENGTH.size : LENGTH.size + length])
            self._headers = tuple((str(name), str(value)) for name, value in headers)
            self._most = float(most)
        except (struct.error, ValueError, TypeError):
            return False
        self._start = LENGTH.size + length
        return True

    def _change(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, WeakSet()
            for change in waiting:
                if change.set_running_or_notify_cancel():
                    change.set_result(None)


def _unresolved() -> Future[None]:
    """Running, so that one waiter's cancellation is not the others'."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def _resolve(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
