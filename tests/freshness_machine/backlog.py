"""In place of a process's writer: what it has to write is written at some later step, in any order, or never."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from django.db import OperationalError

from aicache.core.records import Entry
from aicache.durable.writer import Writer
from tests.freshness_machine.actors import pause


class Due(NamedTuple):
    digest: str
    entry: Entry | None
    act: Callable[[], None]


class Backlog(Writer):
    def __init__(self) -> None:
        super().__init__()
        self.due: list[Due] = []
        self._under_way: list[Due] = []

    def put(self, digest: str, entry: Entry | None, act: Callable[[], None], *, using: str) -> None:
        self.due.append(Due(digest, entry, act))

    def waiting(self, digest: str) -> Entry | None:
        entries = [due.entry for due in (*self._under_way, *self.due) if due.digest == digest]
        return entries[-1] if entries else None

    def write(self, which: int) -> None:
        due = self.due.pop(which % len(self.due))
        self._under_way.append(due)
        try:
            pause("write")
            with contextlib.suppress(OperationalError):
                due.act()
        finally:
            self._under_way.remove(due)
