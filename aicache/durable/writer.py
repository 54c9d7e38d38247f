"""Writes what nobody waits for: in the background, one after the other, until it is written or too old."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django.db import InterfaceError, OperationalError, transaction

from aicache.core.records import Entry
from aicache.database import BUDGET, at_exit, in_memory, in_test, leave, on_connections_of_its_own
from aicache.sqlite import is_open_here, write

logger = logging.getLogger("aicache")

# What waits for a database that is away: bytes, and seconds for each.
MOST: Final = 64 * 1024 * 1024
PATIENCE: Final = 300.0
LONGEST_PAUSE: Final = 5.0
# How long the end of the process waits for what has been paid and is not yet written.
AT_EXIT: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Write:
    using: str
    entry: Entry | None
    act: Callable[[], None]
    due: float = field(default_factory=lambda: time.monotonic() + PATIENCE)

    @property
    def size(self) -> int:
        return 0 if self.entry is None else self.entry.answer.size


class Writer:
    """One thread for a process, started when it is first needed. What waits is found by its digest."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, _Write] = OrderedDict()
        self._size = 0
        self._at_work = False
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._failed = False

    def put(self, digest: str, entry: Entry | None, act: Callable[[], None], *, using: str) -> None:
        """Has ``act()`` write the entry. Later ones of the same digest take the place of earlier ones. Raises nothing.

        In a test case's transaction it is done here and now, as nobody else could see it; and in an SQLite database in
        memory before this returns, as whoever writes to it at the same time is told at once that it is locked.
        """
        if in_test():
            self._here(act, using)
            return
        with self._changed:
            if (before := self._waiting.pop(digest, None)) is not None:
                self._size -= before.size
            self._waiting[digest] = waiting = _Write(using, entry, act)
            self._size += waiting.size
            while self._size > MOST and len(self._waiting) > 1:
                _, lost = self._waiting.popitem(last=False)
                self._size -= lost.size
                self._fails("too much is waiting")
            self._start()
            self._changed.notify_all()
        if in_memory(using) and not is_open_here(using):
            self.flush(BUDGET)

    def waiting(self, digest: str) -> Entry | None:
        """What is to be written there."""
        with self._changed:
            found = self._waiting.get(digest)
        return None if found is None else found.entry

    def flush(self, seconds: float = AT_EXIT) -> bool:
        """Waits so long at most for all that was put before. → whether nothing waits any more."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _here(self, act: Callable[[], None], using: str) -> None:
        try:
            with transaction.atomic(using=using):  # the test's own transaction must survive an error
                act()
        except Exception as error:  # noqa: BLE001 - such as ORM calls in a running event loop
            self._fails(error)

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._work, name="aicache-writer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had, or the interpreter ends
            self._fails(error)
        else:
            self._thread = thread

    def _work(self) -> None:
        on_connections_of_its_own()
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                digest, first = next(iter(self._waiting.items()))
            try:
                write(first.using, first.act)
            except (OperationalError, InterfaceError) as error:  # away, or locked
                pause = min(pause * 2 or 0.05, LONGEST_PAUSE)
                if first.due > time.monotonic():
                    self._fails(error)
                    leave(whole=True)
                    time.sleep(pause)
                    continue
                self._fails(error)
            except Exception as error:  # noqa: BLE001 - the next one may be writable
                self._fails(error)
            else:
                self._succeeds()
            pause = 0.0
            with self._changed:
                if self._waiting.get(digest) is first:
                    del self._waiting[digest]
                    self._size -= first.size
                none_left = not self._waiting
            if none_left:
                leave()
            with self._changed:
                self._changed.notify_all()

    def _fails(self, why: object) -> None:
        if not self._failed:
            logger.warning("copies of answers cannot be written now: %s", why)
        self._failed = True

    def _succeeds(self) -> None:
        if self._failed:
            logger.warning("copies of answers are written again")
        self._failed = False


_writer: Writer | None = None
_making = threading.Lock()


def get_writer() -> Writer:
    """The process's. What waits in it as the process ends is waited for, for AT_EXIT seconds."""
    global _writer
    with _making:
        if _writer is None:
            _writer = Writer()
            at_exit(_flush)
        return _writer


def _flush() -> None:
    if _writer is not None:
        _writer.flush()


def _forget_after_fork() -> None:
    """What waits in the parent is the parent's to write."""
    global _writer, _making
    _writer, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
