"""What flows ask about streams that are under way: who reads them here, and elsewhere through Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any
from weakref import WeakValueDictionary

from redis.exceptions import NoScriptError

from aicache.core.live import BROKEN, Ended, Last, Live
from aicache.core.operations import Finish, Unavailable, Wait
from aicache.core.records import Entry
from aicache.core.streaming import Check, Leave, Outgrow, Share, Tail, Unfollow
from aicache.core.turns import News
from aicache.store import news
from aicache.store.connections import Connections, Make
from aicache.store.ear import CHECK_EVERY, STEP, Ear
from aicache.store.keys import Keys
from aicache.store.leases import LEASE, Leases
from aicache.store.payload import Unreadable, answers, read_entry
from aicache.store.scripts import LEAVE, SAY, TAIL, UNFOLLOW, Plan
from aicache.store.voice import Saying, Voice

Asked = Share | Leave | Unfollow | Outgrow | Tail | Check


class Streams:
    """Performs them for a store, over its connections, ear and leases."""

    def __init__(self, connections: Connections, ear: Ear, leases: Leases) -> None:
        self._connections = connections
        self._ear = ear
        self._leases = leases
        self._led: WeakValueDictionary[str, Live] = WeakValueDictionary()
        self._voice = Voice(self._say)

    def perform(self, operation: Asked) -> Any:
        if isinstance(operation, Tail):
            return tail(operation, self._patience)
        at = _position(operation)
        make, reply = self._begun(operation, at), None
        if make is not None:
            with self._failing(operation):
                reply = self._connections.run(make)
        return self._came_to(operation, reply, at)

    async def aperform(self, operation: Asked) -> Any:
        if isinstance(operation, Tail):
            return await atail(operation, self._patience)
        at = _position(operation)
        make, reply = self._begun(operation, at), None
        if make is not None:
            with self._failing(operation):
                reply = await self._connections.arun(make)
        return self._came_to(operation, reply, at)

    def so_far(self, of: Wait, live: Live) -> Make | None:
        """Asks for what there is of another process's stream, which who waits may read."""
        if not of.ask.live or live.position or self._leases.holds(of.token):
            return None
        return _tailing(of, 0)

    def joined(self, live: Live, reply: list[Any]) -> None:
        if reply[0] == b"there" and reply[1]:
            live.receive(0, reply[1])

    def unfollowing(self, operation: Wait | Unfollow) -> Make:
        """One of this process waits no more for the leader that an operation names."""
        channel = self._ear.channel
        return lambda keys, _: UNFOLLOW([keys.lease(operation.ask, operation.stamps)], operation.token, channel)

    def message(self, finish: Finish) -> tuple[bytes, bytes]:
        """What those elsewhere are told of its end, with what they have not been told yet."""
        if finish.ending is None:
            return news.message(finish)
        told_to = self._voice.told_to(finish.token)
        return news.message(finish, finish.ending.live.position if told_to is None else told_to)

    def over(self, token: str) -> None:
        """The leader with this token, one of this process, is at it no more."""
        self._voice.drop(token)
        self._led.pop(token, None)

    def followed_elsewhere(self, token: str, processes: int) -> None:
        if (live := self._led.get(token)) is not None:
            live.followed_elsewhere(processes)

    @property
    def _patience(self) -> float:
        """Who hears nothing looks more often."""
        return CHECK_EVERY if self._ear.listening else STEP

    @contextlib.contextmanager
    def _failing(self, operation: Asked) -> Iterator[None]:
        """Who leaves is none the worse for not being able to say so."""
        try:
            yield
        except Unavailable:
            if not isinstance(operation, Unfollow):
                raise

    def _begun(self, operation: Asked, at: int) -> Make | None:
        """What is to be asked of Redis, if anything."""
        ask, stamps, token = operation.ask, operation.stamps, operation.token  # type: ignore[union-attr]  # not a Tail
        match operation:
            case Leave() if not self._is_followed_here(token):
                return lambda keys, _: LEAVE([keys.lease(ask, stamps), keys.live(ask, stamps)], token)
            case Unfollow():
                operation.live.leave()
                return self.unfollowing(operation) if self._ear.listening and not operation.live.ended else None
            case Check() if self._must_look(operation):
                return _tailing(operation, at)
        return None

    def _came_to(self, operation: Asked, reply: Any, at: int) -> Any:
        match operation:
            case Share():
                live = self._led[operation.token] = self._ear.live(operation.token)
                self._voice.share(operation, live)
                return live
            case Outgrow():
                self._ear.tell(operation.token, news.Heard(News.NOT_SHARED))
                self._voice.notice(operation.token)
            case Leave():
                if self._is_followed_here(operation.token) or reply:
                    return True
                self._leases.drop(operation.token)
                self.over(operation.token)
                return False
            case Check() if reply is not None:
                self._looked(operation, reply, at)
        return None

    def _is_followed_here(self, token: str) -> bool:
        live = self._led.get(token)
        return live is not None and live.is_followed_here

    def _must_look(self, check: Check) -> bool:
        """A leader of this process is alive; another is looked after by one of those who read it."""
        now = time.monotonic()
        if check.live.is_led_here or self._leases.holds(check.token) or now - check.live.checked < self._patience / 2:
            return False
        check.live.checked = now
        if not self._ear.listening:
            with contextlib.suppress(Unavailable):
                self._ear.listen()
        return True

    def _looked(self, check: Check, reply: list[Any], at: int) -> None:
        live, (verb, found) = check.live, reply
        if verb == b"there":
            live.missed = False
            live.receive(at, found)  # more may have been heard since it was asked for
        elif verb == b"outgrown":
            if live.has_gap:  # nobody has it any more
                live.end(BROKEN)
        elif (entry := _left(check, found)) is not None:
            live.end(Ended("whole", entry))
        elif live.missed:
            live.end(BROKEN)
        else:  # its last word may be on its way
            live.missed = True

    def _say(self, wanted: Sequence[Saying]) -> list[Any]:
        replies: list[Any] = self._connections.run(lambda keys, _: _saying(keys, wanted, self._ear.channel))
        return replies


def tail(operation: Tail, seconds: float) -> bytes | Last | None:
    got = operation.live.take(operation.at)
    if isinstance(got, Future):
        wait({got}, timeout=seconds)
        got = operation.live.take(operation.at)
    return None if isinstance(got, Future) else got


async def atail(operation: Tail, seconds: float) -> bytes | Last | None:
    got = operation.live.take(operation.at)
    if isinstance(got, Future):
        here = asyncio.wrap_future(got)
        try:
            await asyncio.wait({here}, timeout=seconds)
        finally:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                here.cancel()
        got = operation.live.take(operation.at)
    return None if isinstance(got, Future) else got


def _position(operation: Asked) -> int:
    """Up to where a stream is known when it is asked for the rest of it."""
    return operation.live.position if isinstance(operation, Check) else 0


def _tailing(of: Wait | Check, at: int) -> Make:
    def make(keys: Keys, _: bool) -> Plan:
        wanted = [keys.lease(of.ask, of.stamps), keys.live(of.ask, of.stamps), keys.entry(of.ask)]
        return TAIL(wanted, of.token, at)

    return make


def _saying(keys: Keys, wanted: Sequence[Saying], channel: str) -> Plan:
    commands = []
    for told, live, more in wanted:
        share, at = told.share, told.at
        lease = [keys.lease(share.ask, share.stamps), keys.live(share.ask, share.stamps)]
        head = news.lost(share.token) if more is None else news.head(share.token, at)
        not_shared = share.token.encode() + news.NOT_SHARED if live.outgrown else b""
        said = (head, int(LEASE * 1000), channel, not_shared)
        commands.append(SAY.commands(lease, share.token, at, more or b"", *said))
    try:
        return (yield [brief for brief, _ in commands])
    except NoScriptError:
        return (yield [whole for _, whole in commands])


def _left(check: Check, found: bytes | None) -> Entry | None:
    """The answer that a stream came to whose end was missed: it begins as that did."""
    so_far = check.live.since(check.live.start)
    try:
        entry = None if found is None else read_entry(found)
    except Unreadable:
        return None
    if entry is None or not answers(entry, check.ask) or not so_far:
        return None
    return entry if entry.answer.events.startswith(so_far) else None
