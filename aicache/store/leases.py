"""Keeps the leases of this process alive for as long as their calls are."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from aicache.core.turns import Led

logger = logging.getLogger("aicache.store")

# A dead leader is noticed when its lease ends: within LEASE, and well within the 10 s that are promised.
LEASE: Final = 6.0
# Two beats may be lost, to a pause of the process or of Redis, before a living leader loses its lease.
RENEW_EVERY: Final = LEASE / 3
# Renewed in one round trip: some milliseconds of the server's.
BATCH: Final = 256

Lease = tuple[tuple[str, ...], str]  # what it is known by, token


class Leases:
    """One daemon thread for all of them, for async callers too: a blocked event loop must not lose its lease.

    A lease is renewed as long as its ``Led`` is alive: a flow that is dropped half-way, such as a task that was
    cancelled before it ran, lets its lease end. ``renew``: which of these are still held.
    """

    def __init__(self, renew: Callable[[list[Lease]], list[bool]]) -> None:
        self._renew = renew
        self._held: dict[str, tuple[tuple[str, ...], weakref.ref[Led]]] = {}  # by token
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing = False

    def hold(self, keys: tuple[str, ...], led: Led) -> None:
        with self._lock:
            self._held[led.token] = (keys, weakref.ref(led))
            if self._thread is None or not self._thread.is_alive():  # alive no more after a fork
                thread = threading.Thread(target=self._beat, name="aicache-leases", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread to be had: the next hold() tries again
                    self._failed()
                else:
                    self._thread = thread

    def drop(self, token: str) -> None:
        """Renews it no more. Harmless where it is not held."""
        with self._lock:
            self._held.pop(token, None)

    def holds(self, token: str) -> bool:
        return token in self._held

    def __len__(self) -> int:
        return len(self._held)

    def _beat(self) -> None:
        while True:
            time.sleep(RENEW_EVERY)
            with self._lock:
                if not self._held:
                    # Nothing left to renew; the next hold() starts a new thread.
                    self._thread = None
                    return
                held = list(self._held.items())
            for at in range(0, len(held), BATCH):
                try:
                    self._renew_batch(held[at : at + BATCH])
                except Exception:  # noqa: BLE001 - whatever it was, the other leases and the next beat are not to suffer
                    self._failed()
                else:
                    self._failing = False

    def _renew_batch(self, held: list[tuple[str, tuple[tuple[str, ...], weakref.ref[Led]]]]) -> None:
        wanted: list[Lease] = []
        for token, (keys, led) in held:
            if led() is None:
                self.drop(token)
            else:
                wanted.append((keys, token))
        for (_, token), ours in zip(wanted, self._renew(wanted) if wanted else (), strict=True):
            if not ours:
                self.drop(token)

    def _failed(self) -> None:
        """Says so once, until it succeeds again."""
        if not self._failing:
            self._failing = True
            logger.warning("leases could not be renewed; it is tried again", exc_info=True)
