"""Who listens to everything that is told of calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aicache.signals import Event, answer_stored, cache_hit, cache_missed, call_ended

EVENTS = (call_ended, cache_hit, cache_missed, answer_stored)


class Listener:
    """What was told to a sync receiver, and to an async one, in that order: the signal's name, and the rest."""

    def __init__(self) -> None:
        self._told: dict[str, list[tuple[str, dict[str, Any]]]] = {"sync": [], "async": []}
        self._lock = threading.Lock()

    def hear(self, signal: Event, sender: None, **told: Any) -> None:
        self._told["sync"].append((signal.name, told))

    async def ahear(self, signal: Event, sender: None, **told: Any) -> None:
        with self._lock:
            self._told["async"].append((signal.name, told))

    @property
    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Of the sync receiver. AssertionError where the async one was told something else."""
        assert sorted(self._told["sync"], key=repr) == sorted(self._told["async"], key=repr)
        return self._told["sync"]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def of(self, event: Event) -> list[dict[str, Any]]:
        return [told for name, told in self.told if name == event.name]

    @property
    def statuses(self) -> list[str]:
        """Of the calls that have ended."""
        return [told["info"].status for told in self.of(call_ended)]


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    for event in EVENTS:
        event.connect(listener.hear)
        event.connect(listener.ahear)
    try:
        yield listener
    finally:
        for event in EVENTS:
            event.disconnect(listener.hear)
            event.disconnect(listener.ahear)
