"""From this process's memory into the database: in a thread of its own, on a connection of its own.

A process says beforehand how far it may count until it writes again. So what one could not report that was killed is
known as a number: what it had announced, less what it had written. The order of the writes makes that too high where a
process dies between two of them, never too low.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from aicache.conf import get_settings
from aicache.database import leave, on_connections_of_its_own, unforked
from aicache.ledger import compaction, rows
from aicache.ledger.counts import Counts
from aicache.ledger.hits import Hits
from aicache.ledger.process import Process

logger = logging.getLogger("aicache.ledger")

NEVER: Final = float("inf")
# What was counted is in the database after so long and the time that writing takes, which on a busy machine is some:
# others are to see it within a second.
GATHER: Final = 0.3
# And more, where there are so many places that writing them would take more than one in so many seconds of a processor.
SPARING: Final = 30
# Who has counted nothing for so long takes back what was announced beyond it: its end loses nothing.
IDLE: Final = 2.0
# And who has announced more than is written says so often that it lives; see ``stats.UNSEEN``.
HEARTBEAT: Final = 1.5
# How much more than it has counted a process announces: at least so much, and what it counts in so many seconds. Half
# of it is to last while the next announcement is written, on a machine that is busy.
LEAST: Final = 16
AHEAD: Final = 1.0
SHORTEST: Final = 0.25  # seconds in which it can be told how fast it counts
# Between attempts while the database is away, twice as long each time.
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# What is noted beside the counts, and may be lost.
NOTES_EVERY: Final = 10.0
# Who has written nothing for so long asks first whether others have taken it to be gone, which they do in twice the
# time: it may have stood still, in the middle of anything.
UNHEARD: Final = compaction.GONE_AFTER.total_seconds() / 2
# Counts until it is tried again to start the thread, where that failed.
TRY_AGAIN: Final = 1000
AT_EXIT: Final = 2.0


class Flusher:
    """One for a process. ``counts`` rings when there is something to do.

    In a test case's transaction, and with an SQLite database in memory, nothing is written: nobody else could read it,
    and who writes there fails the statements of others.
    """

    def __init__(self) -> None:
        self.counts = Counts(self._ring)
        self.hits = Hits()
        self.process = Process.this()
        self._announced = self._flushed = 0
        self._written = (0, 0)  # the same, as the database has them
        self._is_new = True  # to the database
        self._heard_at = 0.0  # as ``_written_at``, of the clock that goes on while a machine sleeps
        self._enough_until = -1  # more than so many are announced anew, before it is too late
        # Whoever rings may run as garbage is collected, anywhere: also in here, and in the middle of ringing.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._waiting: list[Future[None]] = []
        self._closing: list[Future[None]] = []
        self._is_asleep = True
        self._is_held = False
        self._is_over = False
        self._writes = True  # as far as is known
        self._told = ""
        self._pause = SHORTEST_PAUSE
        self._rate = 0.0  # counts in a second
        self._due = self._since = self._moved_at = self._written_at = self._noted_at = 0.0

    def announcing(self) -> Future[None] | None:
        """What to wait for before something is done that was counted and not announced. None: for nothing."""
        if self.counts.expected <= self._announced or self._is_held or not self._writes:
            return None
        announced: Future[None] = Future()
        with self._lock:
            self._waiting.append(announced)
        self._ring()
        return announced if self._is_heard() else None

    def _is_heard(self) -> bool:
        return not self._is_held and self._thread is not None  # who sees to it

    def is_slow(self) -> None:
        """Nobody waits until it has written again."""
        self._writes = False

    def close(self, *, for_good: bool = False) -> None:
        """Writes what there is, and waits for that AT_EXIT at most. What is counted later is written as ever."""
        if self._thread is None or self._is_held:
            return
        if self.counts.settled() != self._written:
            closed: Future[None] = Future()
            with self._lock:
                self._closing.append(closed)
            self._bell.put(None)
            wait([closed], AT_EXIT)
        if (lost := self.counts.events - self._flushed) > 0:
            logger.warning("%s counts are lost: the database has not taken them", lost)
        if for_good:
            self._is_over = True
            self._bell.put(None)
            self._thread.join(AT_EXIT)

    def _ring(self) -> None:
        self.counts.alarm_at = NEVER  # once is enough, until the thread has seen to it
        if self._is_held:
            return
        if self._is_asleep and rows.is_seen_by_nobody():
            self._is_held = True
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="aicache-counts", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads on this machine, or none any more as the interpreter ends
                    self._writes = False
                    self.counts.alarm_at = self.counts.expected + TRY_AGAIN
                    return
                self._thread = thread
        self._bell.put(None)

    def _work(self) -> None:
        on_connections_of_its_own()
        pause: float | None = None
        while True:
            rung = self._is_rung(pause)
            if self._is_over:
                leave(whole=True)
                return
            with self._lock:
                waiting, self._waiting = self._waiting, []
                closing, self._closing = self._closing, []
            try:
                pause = self._turn(rung or bool(waiting), waiting, is_closing=bool(closing))
                self._is_well()
                leave(whole=self._is_asleep)
            except rows.NoPlace as trouble:
                pause = self._has_none(trouble)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: told, and tried again
                pause = self._failed(error)
            _let_go([*waiting, *closing])

    def _is_rung(self, seconds: float | None) -> bool:
        """Within so long. However often it was rung, it is heard once."""
        try:
            self._bell.get(timeout=seconds)
        except Empty:
            return False
        with suppress(Empty):
            while True:
                self._bell.get_nowait()
        return True

    def _turn(self, rung: bool, waiting: list[Future[None]], *, is_closing: bool) -> float | None:
        """→ seconds until the next one; None: when somebody rings."""
        using = get_settings().database
        if not self._writes or not self._written_at:
            with unforked():
                rows.find_place(using)
        now = time.monotonic()
        if self._is_asleep and self._writes and not (rung or is_closing):
            self._write(using, self._announced)
            return HEARTBEAT if self._announced > self._flushed else None
        if self._is_asleep:
            self._is_asleep, self._due, self._moved_at, self._since = False, now + GATHER, now, now
        # After trouble too: cells are not offered to a database that is away.
        if waiting or self.counts.expected > self._enough_until or not self._writes or self._is_unheard():
            self._announce(using, now)
            _let_go(waiting)
        if now >= self._due or is_closing:
            self._flush(using, now)
            if is_closing or now - self._moved_at >= IDLE:
                return self._rest(using)
        self.counts.alarm_at = self._enough_until
        return max(self._due - now, 0.0)

    def _announce(self, using: str, now: float) -> None:
        events, expected = self.counts.settled()
        allowance = max(LEAST, int(AHEAD * max(self._rate, self._rate_now(events, now))))
        self._write(using, expected + allowance)
        self._announced = expected + allowance
        self._enough_until = self._announced - allowance // 2

    def _flush(self, using: str, now: float) -> None:
        began = time.thread_time()
        cells, events = self.counts.take()
        try:
            rows.write_cells(cells, self.process.id, using=using, in_time=self._in_time)
        except BaseException:
            self.counts.not_written()
            raise
        self.counts.written()
        self._due = now + max(GATHER, SPARING * (time.thread_time() - began))
        if events != self._flushed:
            self._rate, self._since = self._rate_now(events, now), now
            self._flushed, self._moved_at = events, now
            self._announce(using, now)
        elif now - self._written_at >= HEARTBEAT:
            self._write(using, self._announced)
        if now - self._noted_at >= NOTES_EVERY:
            self._noted_at = now
            self._write_notes(using)

    def _write_notes(self, using: str) -> None:
        self.hits.write(using)
        is_done = False
        try:
            spots = self.counts.take_hotspots()
            rows.write_hotspots(spots, self.process.id, using=using, in_time=self._in_time)
            is_done = True
        finally:
            self.counts.hotspots_written(is_done=is_done)

    def _rate_now(self, events: int, now: float) -> float:
        """Counts in a second, since it last wrote them."""
        return (events - self._flushed) / max(now - self._since, SHORTEST)

    def _rest(self, using: str) -> float | None:
        """Nothing more is announced than what the calls will come to that are under way."""
        self._write_notes(using)
        self._is_asleep, self._rate = True, 0.0
        self.counts.alarm_at = -1  # from here on, whoever counts rings; who did before is seen now
        events, self._announced = self.counts.settled()
        self._enough_until = self._announced
        if events != self._flushed:
            self._bell.put(None)
        self._write(using, self._announced)
        return HEARTBEAT if self._announced > self._flushed else None

    def _is_unheard(self) -> bool:
        return max(time.time() - self._heard_at, time.monotonic() - self._written_at) > UNHEARD

    def _in_time(self) -> None:
        if self._is_unheard():
            raise rows.Overdue("the database was not heard of for long")

    def _write(self, using: str, announced: int) -> None:
        told = self._flushed, announced, self.counts
        while not rows.write_process(self.process, *told, using=using, is_new=self._is_new):
            self._begin_anew()
        self._written, self._is_new = (self._flushed, announced), False
        self._written_at, self._heard_at = time.monotonic(), time.time()

    def _begin_anew(self) -> None:
        """As another process: what this one may have written is not its own any more, and lost where it did not."""
        self.counts.let_go()
        self.process, self._is_new = Process.this(), True

    def _is_well(self) -> None:
        if self._told:
            logger.warning("counts are written again")
        self._writes, self._told, self._pause = True, "", SHORTEST_PAUSE

    def _has_none(self, trouble: rows.NoPlace) -> float | None:
        """Nothing is wrong where there is none, or the site wants none there: then nobody need hear of it."""
        if trouble.is_meant:
            logger.info("counts are not written: %s", trouble)
            self._is_held = True
        elif not self._told:
            logger.warning("counts are not written: %s", trouble)
        self._stop(str(trouble))
        return None if trouble.is_meant else LONGEST_PAUSE

    def _failed(self, error: Exception) -> float:
        if not self._told:
            logger.warning("counts cannot be written now: %s", error)
        if self.counts.is_full:  # it takes some, and never all
            self._begin_anew()
        self._stop(str(error))
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause

    def _stop(self, why: str) -> None:
        """Nobody waits for it, or rings, until it is tried again."""
        self._writes, self._told = False, why or "failed"
        self.counts.alarm_at = NEVER
        with suppress(Exception):  # it is what is in trouble
            leave(whole=True)


def _let_go(waiting: list[Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
