"""Redis: keys, connections, scripts, leases. The only place where a key is spelled or a script lives."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from redis.exceptions import ClusterCrossSlotError, RedisError

from aicache.core.operations import Finish, Held, Lead, Led, Look, News, Seen, Unavailable, Wait
from aicache.core.records import CREDENTIAL_STATUSES, Ask, Entry, Failure, Lineage
from aicache.store.address import Address
from aicache.store.connections import Connections
from aicache.store.ear import Ear, Told
from aicache.store.keys import Keys, digest
from aicache.store.leases import LEASE, Leases
from aicache.store.payload import (
    Unreadable,
    answers,
    pack_entry,
    pack_failure,
    pack_lineage,
    read_entry,
    unpack_entry,
    unpack_failure,
    unpack_lineage,
)
from aicache.store.scripts import FINISH, LEAD, RENEW, Plan

__all__ = ["Address", "Store", "digest"]

# The lineage outlives its entry by this much, to tell "expired" from "new".
LINEAGE_AFTER = 24 * 3600.0
# For how long a failure is told to those who began before it; as long as the SDK's jitter spreads their retries.
FAILURE_LIFE = 2.0
# A subscriber's buffer is bounded on the server: larger answers are read from their entry instead.
MOST_TOLD = 4 * 1024 * 1024

ANSWER, FAILED, NOT_SHARED, LOOK_AGAIN = b"a", b"f", b"n", b"l"


class Store:
    """Performs a flow's operations on Redis. Safe for threads and tasks; not across a fork."""

    def __init__(self, address: Address, site: str) -> None:
        self.keys = Keys(site)
        self.connections = Connections(address)
        self.leases = Leases(self._renew)
        self.ear = Ear(
            self.keys.ear(secrets.token_hex(8)), self.connections.subscribe, self._check, _read, self.leases.holds
        )
        self.connections.breaker.on_open.append(self.ear.let_go)

    def perform(self, operation: Look | Lead | Wait | Finish) -> Any:
        match operation:
            case Look():
                return self.connections.run(self._look(operation))
            case Lead():
                turn = self.connections.run(self._lead(operation))
                if isinstance(turn, Held) and not self.ear.listening:
                    self._listen()
                    turn = self.connections.run(self._lead(operation))
                return turn
            case Wait():
                return self._heard(operation, self.ear.wait(operation.token, operation.seconds))
            case Finish():
                try:
                    return self.connections.run(self._finish(operation))
                finally:
                    self._let_go(operation)

    async def aperform(self, operation: Look | Lead | Wait | Finish) -> Any:
        match operation:
            case Look():
                return await self.connections.arun(self._look(operation))
            case Lead():
                turn = await self.connections.arun(self._lead(operation))
                if isinstance(turn, Held) and not self.ear.listening:
                    await asyncio.to_thread(self._listen)
                    turn = await self.connections.arun(self._lead(operation))
                return turn
            case Wait():
                return self._heard(operation, await self.ear.await_(operation.token, operation.seconds))
            case Finish():
                try:
                    return await self.connections.arun(self._finish(operation))
                finally:
                    self._let_go(operation)

    def switch(self, on: bool) -> None:
        """Turns the cache on or off for the whole fleet. Raises Unavailable."""
        self.connections.run(_one("DEL", self.keys.switch) if on else _one("SET", self.keys.switch, "off"))

    def is_on(self) -> bool:
        """Raises Unavailable."""
        return self.connections.run(_one("GET", self.keys.switch)) is None

    def close(self) -> None:
        self.connections.close()
        self.ear.close()

    def _look(self, look: Look) -> Plan:
        ask, keys = look.ask, self.keys
        wanted = keys.entry(ask), keys.lineage(ask)
        try:
            if self.connections.is_cluster:  # which another task may have found out meanwhile
                raise ClusterCrossSlotError
            entry, lineage, switch = yield ("MGET", *wanted, keys.switch)
        except ClusterCrossSlotError:
            entry, lineage = yield ("MGET", *wanted)
            switch = yield ("GET", keys.switch)
        now = time.time()
        found = _entry(entry, ask)
        if found is not None and found.dies_at > now:
            return Seen(found, now, enabled=switch is None)
        return Seen(None, now, _why(lineage, ask, now), enabled=switch is None)

    def _lead(self, lead: Lead) -> Plan:
        ask, token = lead.ask, secrets.token_hex(16)
        keys = [self.keys.lease(ask), self.keys.entry(ask), self.keys.failed(ask)]
        since = -1 if lead.since == float("inf") else int(lead.since * 1e6)
        ear = self.ear.channel if self.ear.listening else ""
        take = 0 if lead.refresh else 1
        verb, *rest = yield from LEAD(keys, token, _ms(LEASE), ear, take, ask.attempt, since, ask.credential)
        match verb:
            case b"entry":
                entry = _entry(rest[0], ask)
                if entry is None:  # unreadable: whoever leads writes it anew
                    return (yield from self._lead(Lead(ask, lead.since, refresh=True)))
                return entry
            case b"failed":
                try:
                    return unpack_failure(rest[0])
                except Unreadable:
                    yield ("DEL", keys[2])
                    return (yield from self._lead(lead))
            case b"held":
                return Held(rest[0].decode(), max(rest[1], 0) / 1000 + 0.05)
        led = Led(token)
        self.leases.hold(keys[0], led)
        self.connections.breaker.accepted()
        return led

    def _let_go(self, finish: Finish) -> None:
        """Once the lease is free, not before: who is told to look again must not find it held. Without Redis too."""
        self.ear.tell_waiting(finish.token, _told(finish))
        self.leases.drop(finish.token)

    def _finish(self, finish: Finish) -> Plan:
        kind, payload = _message(_told(finish))
        ask, keys = finish.ask, self.keys
        life = memory = 0
        lineage = b""
        entry, failure = finish.entry, finish.failure
        if entry is not None and finish.keep:
            # To the end of its last millisecond: readers compare dies_at, so that an entry that is gone has expired.
            life = max(_ms(entry.dies_at - time.time()) + 1, 0)
            lineage = pack_lineage(Lineage(entry.key, entry.dies_at))
        if failure is not None and failure.kind != "timeout":  # who allows more time must not be told so later
            memory = _ms(FAILURE_LIFE)
        told = len(payload) <= MOST_TOLD
        if not told:
            kind = LOOK_AGAIN if finish.keep else NOT_SHARED
        reply = yield from FINISH(
            [keys.lease(ask), keys.entry(ask), keys.lineage(ask), keys.failed(ask)],
            *(finish.token, finish.token.encode() + kind, int(told), payload),
            *(life, lineage, life + _ms(LINEAGE_AFTER)),
            *(memory, ask.attempt, _credential(failure)),
        )
        return reply == b"ours"

    def _heard(self, wait: Wait, told: Told) -> Told:
        if told is News.LOOK_AGAIN:
            self.connections.breaker.check()
        if isinstance(told, Entry) and not answers(told, wait.ask):
            return News.LOOK_AGAIN
        return told

    def _listen(self) -> None:
        try:
            self.ear.listen()
        except (RedisError, OSError) as error:
            self.connections.breaker.trip(error)
            raise Unavailable("unreachable") from error

    def _renew(self, key: str, token: str) -> bool:
        """False once the lease is lost. While Redis is away nobody knows: then it is tried again."""
        try:
            return bool(self.connections.run(RENEW([key], token, _ms(LEASE))))
        except Unavailable:
            return True

    def _check(self) -> None:
        try:
            self.connections.run(_one("PING"))
        except Unavailable:
            self.ear.let_go()


def _one(*command: Any) -> Plan:
    return (yield command)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _entry(data: bytes | None, ask: Ask) -> Entry | None:
    try:
        return None if data is None else unpack_entry(data, ask)
    except Unreadable:
        return None


def _why(lineage: bytes | None, ask: Ask, now: float) -> str:
    try:
        return "new" if lineage is None else unpack_lineage(lineage).reason(ask, now)
    except Unreadable:
        return "unknown"


def _told(finish: Finish) -> Told:
    """What a leader's end means for its waiters."""
    if finish.failure is not None:
        return finish.failure
    if finish.entry is None:
        return News.LOOK_AGAIN
    return finish.entry if finish.share or finish.keep else News.NOT_SHARED


def _message(told: Told) -> tuple[bytes, bytes]:
    """The same as a kind and a payload; the payload is also what is stored."""
    match told:
        case Entry():
            return ANSWER, pack_entry(told)
        case Failure():
            return FAILED, pack_failure(told)
        case News.NOT_SHARED:
            return NOT_SHARED, b""
    return LOOK_AGAIN, b""


def _read(message: bytes) -> Told:
    try:
        match message[:1]:
            case b"a":
                return read_entry(message[1:])
            case b"f":
                return unpack_failure(message[1:])
            case b"n":
                return News.NOT_SHARED
    except Unreadable:
        pass
    return News.LOOK_AGAIN


def _credential(failure: Failure | None) -> str:
    return failure.credential if failure is not None and failure.status in CREDENTIAL_STATUSES else ""
