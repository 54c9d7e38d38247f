"""A store in this process's memory: to test without any server. The same operations, the same answers."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any

from aicache.core.gating import Approach, AtGate, Note, Observe, Quit, Scout, Stay
from aicache.core.lineage import Lineage, missed
from aicache.core.live import Live
from aicache.core.operations import Capture, Finish, Lead, Look, Seen, Unavailable, Wait
from aicache.core.records import CREDENTIAL_STATUSES, Ask, Entry, Failure, Stamps
from aicache.core.streaming import Check, Leave, Outgrow, Share, Tail, Unfollow
from aicache.core.tags import Tag
from aicache.core.turns import Held, Led, News
from aicache.store.ear import CHECK_EVERY
from aicache.store.news import said
from aicache.store.streams import Asked, atail, tail
from aicache.testing.flights import Flight, of_nobody, tell, unheard, where
from aicache.testing.prefixes import MemoryPrefixes

FAILURE_LIFE = 2.0
REMEMBERED = 1000


class MemoryStore:
    """Performs a flow's operations for the threads and tasks of one process.

    ``down = True`` makes it unavailable, for those who wait too. A lease does not end by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._lineages: dict[tuple[str, str], Lineage] = {}
        self._flights: dict[tuple[str, str, str], Flight] = {}
        self._ended: dict[str, Flight] = {}
        self._failures: dict[tuple[str, str], tuple[float, int, Failure]] = {}
        self._stamps: dict[str, str] = {}
        self._prefixes = MemoryPrefixes()
        self._asks: dict[tuple[str, str], Ask] = {}
        self._on = True
        self._down = False
        self._closed = False

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        with self._lock:
            self._down = down
            if down:
                self._let_go()

    def perform(self, operation: Look | Capture | Lead | Wait | Finish | Asked | AtGate | Stay) -> Any:
        if isinstance(operation, Wait):
            with self._waiting(operation) as awaited:
                wait(awaited, _seconds(operation), FIRST_COMPLETED)
                return self._heard(operation)
        if isinstance(operation, Tail):
            return tail(operation, CHECK_EVERY)
        if isinstance(operation, Stay):
            return self._prefixes.stay(operation)
        return self._at_once(operation)

    async def aperform(self, operation: Look | Capture | Lead | Wait | Finish | Asked | AtGate | Stay) -> Any:
        if isinstance(operation, Wait):
            with self._waiting(operation) as awaited:
                wrapped = [asyncio.wrap_future(future) for future in awaited]
                if wrapped:
                    await asyncio.wait(wrapped, timeout=_seconds(operation), return_when=asyncio.FIRST_COMPLETED)
                return self._heard(operation)
        if isinstance(operation, Tail):
            return await atail(operation, CHECK_EVERY)
        if isinstance(operation, Stay):
            return await self._prefixes.astay(operation)
        return self._at_once(operation)

    def leads(self, token: str) -> bool:
        """Whether that leader is of this process: here, each is."""
        return True

    def switch(self, on: bool) -> None:
        self._on = on

    def is_on(self) -> bool:
        return self._on

    def close(self) -> None:
        """Keeps nobody waiting any more."""
        with self._lock:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        self._prefixes.let_go()
        for flight in self._flights.values():
            tell(flight, News.LOOK_AGAIN)
            flight.news = unheard()

    def _at_once(self, operation: Look | Capture | Lead | Finish | Asked | AtGate) -> Any:
        with self._lock:
            if isinstance(operation, Share | Unfollow | Outgrow | Check):  # its leader is of this process
                return self._of_stream(operation)
            if self._down:
                if isinstance(operation, Finish):  # its lease would end, unrenewed
                    self._end_live(operation, kept=False)
                    self._flights.pop((*where(operation.ask), operation.stamps.flight), None)
                raise Unavailable("unreachable")
            match operation:
                case Approach() | Scout() | Note() | Observe() | Quit():
                    return self._prefixes.perform(operation, is_on=self._on)
                case Look():
                    return self._look(operation.ask)
                case Capture():
                    return self._capture(operation.ask)
                case Lead():
                    return self._lead(operation)
                case Finish():
                    return self._finish(operation)
                case Leave():
                    return self._of_stream(operation)

    def _of_stream(self, operation: Share | Leave | Unfollow | Outgrow | Check) -> Any:
        line = (*where(operation.ask), operation.stamps.flight)
        flight = self._flights.get(line)
        its = flight if flight is not None and flight.token == operation.token else Flight(operation.token)
        match operation:
            case Share():
                return its.live
            case Unfollow():
                operation.live.leave()
            case Leave() if its is flight and not its.live.is_followed_here:
                del self._flights[line]
            case Leave():
                return its is flight
            case Outgrow():
                its.outgrown = True
                tell(its, News.NOT_SHARED)
        return False

    def _look(self, ask: Ask) -> Seen:
        now = time.time()
        values = [self._stamps.get(tag.digest) for tag in ask.tags]
        present = tuple(value for value in values if value is not None)
        stamps = Stamps(present) if len(present) == len(values) else None
        entry = self._entries.get(where(ask))
        if entry is not None and stamps is not None and entry.stamps.values == present and entry.dies_at > now:
            return Seen(entry, stamps, enabled=self._on)
        reason, before = missed(self._lineages.get((ask.tenant, ask.lineage)), ask, now, values)
        return Seen(None, stamps, reason, self._on, before)

    def _capture(self, ask: Ask) -> Stamps:
        return Stamps(tuple(self._stamps.setdefault(tag.digest, secrets.token_hex(8)) for tag in ask.tags))

    def stamp(self, tags: Collection[Tag]) -> None:
        """Invalidates. Raises Unavailable."""
        with self._lock:
            if self._down:
                raise Unavailable("unreachable")
            for tag in tags:
                if (answer := tag.answer) is not None:
                    self._purge(answer[0], answer[2])
                elif tag.digest in self._stamps:
                    self._stamps[tag.digest] = secrets.token_hex(8)

    def _purge(self, *place: str) -> None:
        """Nobody waits any more for who is at it, and who is at it stores nothing."""
        self._entries.pop((place[0], place[1]), None)
        for line in [line for line in self._flights if line[:2] == place]:
            tell(self._flights.pop(line), News.LOOK_AGAIN)

    def standing(self, tags: Sequence[Tag]) -> list[str]:
        """How the tags stand: by this, what hung on them can be counted after they died."""
        with self._lock:
            return [self._stamps.get(tag.digest, "") for tag in tags]

    def counts(self, tags: Sequence[Tag], stood: Sequence[str] | None = None) -> list[int]:
        """How many answers hang on each tag, or did when they stood so."""
        stamps = self.standing(tags) if stood is None else stood
        with self._lock:
            asked = [(self._entries[place], ask.tags) for place, ask in self._asks.items() if place in self._entries]
            kept = Counter((on, entry.stamps.values[at]) for entry, hung in asked for at, on in enumerate(hung))
        return [kept[tag, stamp] for tag, stamp in zip(tags, stamps, strict=True)]

    def names(self) -> Iterator[tuple[Tag, str]]:
        """The tags in use, each with its owner for people."""
        with self._lock:
            asks = list(self._asks.values())
        owned = {tag: ask.owner if tag.tenant == ask.tenant else "" for ask in asks for tag in ask.tags}
        yield from owned.items()

    def reclaim(self, most: int) -> tuple[int, bool]:
        """Nothing: the memory is given back when the store is."""
        return 0, True

    def _lead(self, lead: Lead) -> Entry | Failure | Held | Led | News:
        ask, place = lead.ask, where(lead.ask)
        entry = None if lead.refresh else self._entries.get(place)
        if entry is not None and entry.stamps.mark == lead.stamps.mark and entry.dies_at > time.time():
            return entry
        if (failed := self._failures.get(place)) is not None:
            at, attempt, failure = failed
            age = time.monotonic() - at
            timely = attempt >= ask.attempt if ask.attempt else age < lead.since
            if age < FAILURE_LIFE and timely and failure.credential in ("", ask.credential):
                return failure
        line = (*place, lead.stamps.flight)
        if (flight := self._flights.get(line)) is not None:
            if flight.outgrown:
                return News.NOT_SHARED
            if not flight.live.is_broken:
                return Held(flight.token, float("inf"))
            tell(flight, News.BROKE_OFF)
        flight = self._flights[line] = Flight(secrets.token_hex(16))
        return Led(flight.token)

    def _finish(self, finish: Finish) -> bool:
        ask, place = finish.ask, where(finish.ask)
        line = (*place, finish.stamps.flight)
        flight = self._flights.get(line)
        if flight is None or flight.token != finish.token:
            self._end_live(finish, kept=False)
            return False
        del self._flights[line]
        self._ended[finish.token] = flight  # for waiters who were told to wait and have not come yet
        while len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]
        entry, failure, kept = finish.entry, finish.failure, True
        if failure is not None:
            shown = failure if failure.status in CREDENTIAL_STATUSES else of_nobody(failure)
            if failure.kind != "timeout":
                self._failures[place] = (time.monotonic(), ask.attempt, shown)
        elif entry is not None:
            stands = tuple(self._stamps.get(tag.digest, "") for tag in ask.tags) == finish.stamps.values
            if finish.keep and stands:
                self._entries[place], self._asks[place] = entry, ask
                lineage = Lineage(entry.key, entry.dies_at, entry.stamps, ask.sources)
                self._lineages[ask.tenant, ask.lineage] = lineage
            kept = stands or not finish.keep
        tell(flight, said(finish, kept).told)
        self._end_live(finish, kept)
        return kept

    @staticmethod
    def _end_live(finish: Finish, kept: bool) -> None:
        """Those who read it are told, whatever became of its lease."""
        if finish.ending is not None:
            said(finish, kept).end(finish.ending.live)

    @contextmanager
    def _waiting(self, wait: Wait) -> Iterator[list[Future[Any]]]:
        """What is waited for; nothing, where nobody would tell."""
        if (flight := self._flight(wait)) is None:
            yield []
            return
        flight.live.join()
        try:
            told: list[Future[Any]] = [flight.news, flight.live.begun] if wait.ask.live else [flight.news]
            yield [] if flight.live.is_broken else told
        finally:
            flight.live.leave()

    def _flight(self, wait: Wait) -> Flight | None:
        with self._lock:
            if self._down or self._closed:
                return None
            under_way = (flight for flight in self._flights.values() if flight.token == wait.token)
            return next(under_way, None) or self._ended.get(wait.token)

    def _news(self, wait: Wait) -> Future[Entry | Failure | News] | None:
        return None if (flight := self._flight(wait)) is None else flight.news

    def _heard(self, wait: Wait) -> Entry | Failure | News | Live:
        flight = self._flight(wait)
        if self._down:
            raise Unavailable("unreachable")
        if flight is not None and flight.news.done():
            return flight.news.result()
        if flight is not None and wait.ask.live and flight.live.can_be_joined:
            flight.live.join()
            return flight.live
        if self._closed:
            raise Unavailable("closed")
        return News.LOOK_AGAIN


def _seconds(wait: Wait) -> float:
    """Locks know no infinity."""
    return min(wait.seconds, threading.TIMEOUT_MAX)
