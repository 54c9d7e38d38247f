"""What flows ask at the prompt-cache gate: which prefixes live, who writes them, who waits, and what was learned."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import astuple, replace
from typing import Any, Final

from redis.exceptions import NoScriptError

from aicache.core.gating import Approach, AtGate, Note, Observe, Quit, Scout, Stay, Way
from aicache.core.lag import NO_LAG, Lag
from aicache.core.operations import Unavailable
from aicache.core.turns import Held, Led, News
from aicache.core.usage import TOLERANCE, Living
from aicache.store import news
from aicache.store.connections import Connections, Make
from aicache.store.ear import Ear
from aicache.store.keys import Keys
from aicache.store.leases import LEASE, Leases
from aicache.store.plans import milliseconds
from aicache.store.scripts import APPROACH, FIRST, NOTE, SWAP, Plan

# What was learned of a lag is forgotten when nobody has met one for so long.
LEARNED_FOR: Final = 3600.0
# The provider's clock is not ours: what is about to die counts as dead.
EARLIER: Final = 5.0
# How often it is tried to learn something while others do.
TRIES: Final = 3

# In which a script tells of a prefix that lives.
WORDS: Final = 6

SCOUTED, READ, WRITTEN = "scouted", "seen read", "seen written"


class Prefixes:
    """Performs them for a store, over its connections, ear and leases. ``listen``: whether the ear hears now.
    ``later``: does what nobody is to wait for."""

    def __init__(
        self,
        connections: Connections,
        ear: Ear,
        leases: Leases,
        listen: Callable[[], bool],
        alisten: Callable[[], Awaitable[bool]],
        later: Callable[[Make], None],
    ) -> None:
        self._connections = connections
        self._ear = ear
        self._leases = leases
        self._listen = listen
        self._alisten = alisten
        self._later = later

    def perform(self, operation: AtGate | Stay) -> Any:
        match operation:
            case Stay():
                return self._heard(self._ear.wait(operation.token, operation.seconds))
            case Approach():
                way = self._approached(operation)
                if way.held is not None and operation.waits and not self._ear.listening and self._listen():
                    way = self._approached(operation)
                return way
            case Note() | Quit():
                try:
                    return self._connections.run(self._noting(operation))
                finally:
                    self._let_go(operation)
        return self._connections.run(self._asking(operation))

    async def aperform(self, operation: AtGate | Stay) -> Any:
        match operation:
            case Stay():
                return self._heard(await self._ear.await_(operation.token, operation.seconds))
            case Approach():
                way = await self._aapproached(operation)
                if way.held is not None and operation.waits and not self._ear.listening and await self._alisten():
                    way = await self._aapproached(operation)
                return way
            case Note() | Quit():
                try:
                    return await self._connections.arun(self._noting(operation))
                finally:
                    self._let_go(operation)
        return await self._connections.arun(self._asking(operation))

    def _approached(self, approach: Approach) -> Way:
        token = secrets.token_hex(16)
        try:
            way: Way = self._connections.run(lambda keys, _: self._approach(keys, approach, token))
        except Unavailable:
            raise
        except BaseException:  # such as the soft time limit of a task: the lease may have been taken for nobody
            with suppress(Unavailable):
                self._connections.run(self._noting(Quit(approach.prompt, token)))
            raise
        return way

    async def _aapproached(self, approach: Approach) -> Way:
        token = secrets.token_hex(16)
        try:
            way: Way = await self._connections.arun(lambda keys, _: self._approach(keys, approach, token))
        except asyncio.CancelledError:
            self._later(self._noting(Quit(approach.prompt, token)))
            raise
        return way

    def _approach(self, keys: Keys, approach: Approach, token: str) -> Plan:
        prompt = approach.prompt
        gates, worth = keys.gates(prompt), prompt.worth_waiting
        wanted = [*keys.prefixes(prompt), *gates]
        ear = self._ear.channel if approach.waits and self._ear.listening else ""
        own = len(prompt.prefixes), token, milliseconds(LEASE), ear, *(at + 1 for at in worth)
        script = APPROACH.commands(wanted, *own)
        others = [("GET", keys.lag(prompt)), ("GET", keys.switch)]
        try:
            found, lag, switch = yield [script[0], *others]
        except NoScriptError:
            found, lag, switch = yield [script[1], *others]
        living, (verb, *more) = _living(found[:WORDS]) if found[0] else None, found[WORDS:]
        way = Way(living, lag=_unpacked(lag), is_on=switch is None)
        match verb:
            case b"held":
                of, holder, left = more
                return replace(way, held=Held(holder.decode(), max(left, 0) / 1000 + 0.05), held_at=of - 1)
            case b"led":
                led = Led(token)
                self._leases.hold(tuple(gates[at - 1] for at in more), led)
                return replace(way, led=led)
        return way

    def _noting(self, operation: Note | Quit) -> Make:
        def make(keys: Keys, _: bool) -> Plan:
            gates = keys.gates(operation.prompt)
            if isinstance(operation, Quit):
                word = news.BROKE_OFF if operation.has_failed else news.LOOK_AGAIN
                yield from NOTE(gates, 0, operation.token, word, 0, 1)
                return None
            prefixes = keys.prefixes(operation.prompt)
            own = len(prefixes), operation.token, news.LOOK_AGAIN, operation.read, 1 - TOLERANCE
            marks = [
                word
                for mark in operation.marks
                for word in (
                    mark.at + 1,
                    milliseconds(mark.life - EARLIER),
                    mark.tokens,
                    int(mark.is_exact),
                    int(mark.is_written),
                )
            ]
            brief, whole = NOTE.commands([*prefixes, *gates], *own, *marks)
            try:
                found, switch = yield [brief, ("GET", keys.switch)]
            except NoScriptError:
                found, switch = yield [whole, ("GET", keys.switch)]
            if switch is not None:
                return None
            return tuple(_living(found[start : start + WORDS]) for start in range(0, len(found), WORDS))

        return make

    def _let_go(self, operation: Note | Quit) -> None:
        """Of this process's own; without Redis too."""
        if operation.token:
            failed = isinstance(operation, Quit) and operation.has_failed
            self._ear.tell_waiting(operation.token, news.Heard(News.BROKE_OFF if failed else News.LOOK_AGAIN))
            self._leases.drop(operation.token)

    def _asking(self, operation: Scout | Observe) -> Make:
        def make(keys: Keys, _: bool) -> Plan:
            prefix = [keys.prefixes(operation.prompt)[operation.at]]
            if isinstance(operation, Scout):
                return bool((yield from FIRST(prefix, SCOUTED)))
            if (yield from FIRST(prefix, READ if operation.read else WRITTEN)):
                yield from _learning(keys.lag(operation.prompt), operation)
            return None

        return make

    def _heard(self, told: Any) -> News:
        self._connections.breaker.check()
        return told if isinstance(told, News) else News.LOOK_AGAIN


def _learning(key: str, observed: Observe) -> Plan:
    for _ in range(TRIES):
        known = yield ("GET", key)
        lag = _unpacked(known)
        learned = lag.after(observed.gap, read=observed.read)
        if learned == lag:
            return
        packed = "" if learned == NO_LAG else json.dumps(astuple(learned))
        if (yield from SWAP([key], known or b"", packed, milliseconds(LEARNED_FOR))):
            return


def _living(words: Any) -> Living:
    at, age, tokens, exact, read, told = words
    return Living(at - 1, max(age, 0) / 1000, tokens, bool(exact), bool(read), bool(told))


def _is_number(word: Any) -> bool:
    return isinstance(word, int | float)


def _unpacked(data: bytes | None) -> Lag:
    """What another version wrote is forgotten."""
    try:
        words = None if data is None else json.loads(data)
        return Lag(*words) if isinstance(words, list) and all(map(_is_number, words)) else NO_LAG
    except (ValueError, TypeError):
        return NO_LAG
