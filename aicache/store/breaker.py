"""Whether Redis is worth asking. Opens at the first sign of trouble; a probe in the background closes it again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import ConnectionError

from aicache.core.operations import Unavailable

logger = logging.getLogger("aicache.store")

# How long after Redis is back calls are still sent past it.
PROBE_EVERY: Final = 0.5


class Displaced(ConnectionError):
    """Another server answers where the one was that is known."""


class Breaker:
    """Three states: *up*; *down* (out of reach: nobody asks); *refusing* (it answers, and will not write).

    Each change of state is one WARNING. Callers are never made to probe.
    """

    def __init__(self, probe: Callable[[], None], address: str) -> None:
        self._probe = probe
        self._address = address
        self._lock = threading.Lock()
        self._refusal = ""
        self._closed = threading.Event()  # set when the object itself is given up
        self._recoverer: int | None = None
        self._turned_away = 0
        self._savers_first = False
        self._alone = False
        self._up = threading.Event()
        self._up.set()
        self._displaced = False
        self.down = False
        self.on_open: list[Callable[[], None]] = []

    def check(self, *, saves: bool = False) -> None:
        """Raises Unavailable, except to who is recovering; towards the end of that, to readers only."""
        if self.down and not (saves and self._savers_first) and threading.get_ident() != self._recoverer:
            if self._alone:
                self._start(0, again=True)
            raise Unavailable("unreachable")

    def comes_back(self, seconds: float) -> bool:
        """Waits for it where it is only another server that answers: that one is there already."""
        return self._displaced and threading.get_ident() != self._recoverer and self._up.wait(seconds)

    def turn_away(self) -> None:
        """An invalidation could not be applied: it is pending, and what was drained before it is not enough."""
        with self._lock:
            self._turned_away += 1
        self.trip(ConnectionError("an invalidation is pending"))  # who recovers may have been done by an inch

    def trip(self, error: BaseException) -> None:
        """Opens; a daemon thread then probes until Redis answers."""
        words = _words(error)
        with self._lock:
            if self.down or self._closed.is_set():
                return
            self.down = True
            self._displaced = isinstance(error, Displaced)
            self._up.clear()
        logger.warning("Redis at %s is out of reach (%s): calls go to upstream", self._address, words)
        try:
            for react in self.on_open:  # before the probe begins, whose new connections are not meant
                try:
                    react()
                except Exception:
                    logger.exception("what follows from an outage failed")
        finally:  # who answers in another's place is there already
            self._start(0 if isinstance(error, Displaced) else PROBE_EVERY)

    def _start(self, wait: float, *, again: bool = False) -> None:
        """Where there is no thread to be had, whoever comes tries again."""
        with self._lock:
            if again and not self._alone:
                return
            try:
                threading.Thread(target=self._recover, args=(wait,), name="aicache-probe", daemon=True).start()
            except RuntimeError:
                self._alone = True
            else:
                self._alone = False

    def refused(self, error: BaseException) -> None:
        """Redis answers but refuses a write: full, read-only, without its disk."""
        word = _words(error)
        with self._lock:
            first, self._refusal = word.split()[0] != self._refusal, word.split()[0]
        if first:
            logger.warning("Redis at %s refuses (%s): new answers are not kept", self._address, word)

    def accepted(self) -> None:
        """A write succeeded."""
        if self._refusal:
            with self._lock:
                self._refusal = ""
            logger.warning("Redis at %s accepts writes again", self._address)

    def give_up(self) -> None:
        self._closed.set()

    def _recover(self, wait: float) -> None:
        self._recoverer = threading.get_ident()
        while not self._closed.wait(wait):
            wait, seen = PROBE_EVERY, self._turned_away
            try:
                self._probe()
            except BaseException as error:  # noqa: BLE001 - whatever it says, it is not back, and nobody else will see
                logger.debug("Redis at %s is still out of reach: %r", self._address, error)
                self._savers_first = False
                continue
            with self._lock:
                if self._turned_away != seen:
                    # Who saves from now on is let in: where one saves each moment there would be no end to it.
                    self._savers_first, wait = True, 0
                    continue
                self._savers_first = False
                self._recoverer = None  # threads to come may be given the same number
                self.down = False
                self._up.set()
            logger.warning("Redis at %s is back", self._address)
            return


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
