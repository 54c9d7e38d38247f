"""The world over the store of the tests: one process, and each operation is one step."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import Any

from aicache.core.operations import Wait
from aicache.core.tags import Tag
from aicache.core.turns import Led, News
from aicache.testing.memory import MemoryStore
from tests.freshness_machine.actors import pause
from tests.freshness_machine.machine import Machine
from tests.freshness_machine.world import Driven, Process, World


class Stepping(MemoryStore):
    """Its leases end by themselves too: those of leaders that are no more, when time passes."""

    def __init__(self) -> None:
        super().__init__()
        self._leaders: weakref.WeakValueDictionary[str, Led] = weakref.WeakValueDictionary()

    def perform(self, operation: Any) -> Any:
        if isinstance(operation, Wait):
            if (news := self._news(operation)) is not None:
                pause("wait", lambda: not news.done())
            return self._heard(operation)
        pause(type(operation).__name__.upper())
        done = super().perform(operation)
        if isinstance(done, Led):
            self._leaders[done.token] = done
        return done

    def stamp(self, tags: Collection[Tag]) -> None:
        pause("STAMP_AGAIN")
        super().stamp(tags)

    def leads(self, token: str) -> bool:
        return False

    def end_leases(self) -> None:
        for line, flight in list(self._flights.items()):
            if flight.token not in self._leaders:
                del self._flights[line]
                flight.news.set_result(News.LOOK_AGAIN)

    def evict(self, pattern: str) -> None:
        if pattern in ("*", "*:e:*"):
            self._entries.clear()
        if pattern in ("*", "*:l"):
            self._lineages.clear()
        if pattern in ("*", "*:s:*"):
            self._stamps.clear()
        self._stamps.pop(pattern.rpartition(":")[2], None)


class InMemory(World):
    """It drains nothing when it is back: what is pending there is told by nobody but the drain."""

    owns = False

    def __init__(self, *, durable: bool) -> None:
        super().__init__(durable=durable)
        self.store = Stepping()
        self.start()

    def start(self) -> None:
        process = Process()
        process.store = self.store
        process.cache = Driven(process, self)
        self.processes.append(process)

    def befall(self, what: str, moves: int) -> None:
        if what == "the server is away":
            self.store.down = True
            self.away = moves
        super().befall(what, moves)

    def count_down(self) -> None:
        super().count_down()
        if self.store.down:
            self.away -= 1
            self.store.down = self.away > 0

    def bring_back(self) -> None:
        super().bring_back()
        self.store.down = False

    def pass_by(self, seconds: float) -> None:
        super().pass_by(seconds)
        self.store.end_leases()

    def evict(self, pattern: str) -> None:
        self.store.evict(pattern)


class MemoryMachine(Machine):
    def make(self) -> World:
        return InMemory(durable=self.durable)
