"""Whether Redis is worth asking. Opens at the first sign of trouble; a probe in the background closes it again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from aicache.core.operations import Unavailable

logger = logging.getLogger("aicache.store")

# How long after Redis is back calls are still sent past it.
PROBE_EVERY: Final = 0.5


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
        self.down = False
        self.on_open: list[Callable[[], None]] = []

    def check(self) -> None:
        if self.down:
            raise Unavailable("unreachable")

    def trip(self, error: BaseException) -> None:
        """Opens; a daemon thread then probes until Redis answers."""
        with self._lock:
            if self.down or self._closed.is_set():
                return
            self.down = True
        logger.warning("Redis at %s is out of reach (%s): calls go to upstream", self._address, _words(error))
        try:
            threading.Thread(target=self._recover, name="aicache-probe", daemon=True).start()
        except RuntimeError:  # no thread to probe with: callers find out by themselves, rather than never
            self.down = False
        for react in self.on_open:
            try:
                react()
            except Exception:
                logger.exception("what follows from an outage failed")

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

    def _recover(self) -> None:
        while not self._closed.wait(PROBE_EVERY):
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it says, it is not back
                logger.debug("Redis at %s is still out of reach: %s", self._address, error)
            else:
                self.down = False
                logger.warning("Redis at %s is back", self._address)
                return


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
