"""Of each change of state one line; and for a moment nobody asks what has just failed."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

logger = logging.getLogger("aicache")

# A database that hangs costs a caller its budget once in so long, not at each call.
ASK_AGAIN: Final = 2.0


class Trouble:
    """``meanwhile``: what goes without the database; ``again``: the same where it is back."""

    def __init__(self, meanwhile: str, again: str) -> None:
        self._meanwhile, self._again = meanwhile, again
        self._failed = False
        self._silent_until = 0.0
        self._lock = threading.Lock()

    @property
    def is_recent(self) -> bool:
        return time.monotonic() < self._silent_until

    def met(self, error: BaseException) -> None:
        with self._lock:
            first, self._failed = not self._failed, True
            self._silent_until = time.monotonic() + ASK_AGAIN
        if first:
            logger.warning("the database fails (%s): %s", f"{type(error).__name__}: {error}", self._meanwhile)

    def over(self) -> None:
        if not self._failed:  # without the lock: it is asked at each call
            return
        with self._lock:
            first, self._failed, self._silent_until = self._failed, False, 0.0
        if first:
            logger.warning("the database is back: %s", self._again)
