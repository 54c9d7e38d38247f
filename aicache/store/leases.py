"""Keeps the leases of this process alive for as long as their calls are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

# A dead leader is noticed when its lease ends: within LEASE, and well within the 10 s that are promised.
LEASE: Final = 6.0
# Two beats may be lost, to a pause of the process or of Redis, before a living leader loses its lease.
RENEW_EVERY: Final = LEASE / 3


class Leases:
    """One daemon thread for all of them, for async callers too: a blocked event loop must not lose its lease."""

    def __init__(self, renew: Callable[[str, str], bool]) -> None:
        self._renew = renew
        self._held: dict[str, str] = {}  # token → key
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def hold(self, key: str, token: str) -> None:
        with self._change:
            self._held[token] = key
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="aicache-leases", daemon=True)
                self._thread.start()

    def drop(self, token: str) -> None:
        """Renews it no more. Harmless where it is not held."""
        with self._change:
            self._held.pop(token, None)

    def __len__(self) -> int:
        return len(self._held)

    def _beat(self) -> None:
        while True:
            time.sleep(RENEW_EVERY)
            with self._change:
                if not self._held:
                    # Nothing left to renew; the next hold() starts a new thread.
                    self._thread = None
                    return
                held = list(self._held.items())
            for token, key in held:
                if not self._renew(key, token):
                    self.drop(token)
