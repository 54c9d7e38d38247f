"""Redis: keys, connections, scripts, leases. The only place where a key is spelled or a script lives."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from concurrent import futures
from typing import Any

from redis.exceptions import ClusterCrossSlotError, NoScriptError

from aicache.core.operations import Finish, Held, Lead, Led, Look, News, Seen, Unavailable, Wait
from aicache.core.records import CREDENTIAL_STATUSES, Ask, Entry, Failure, Lineage
from aicache.store import news
from aicache.store.address import BUDGET, Address
from aicache.store.connections import Connections
from aicache.store.ear import Ear
from aicache.store.keys import Keys, digest
from aicache.store.leases import LEASE, Lease, Leases
from aicache.store.payload import (
    Unreadable,
    answers,
    pack_lineage,
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


class Store:
    """Performs a flow's operations on Redis. Safe for threads and tasks; not across a fork."""

    def __init__(self, address: Address, site: str) -> None:
        self.keys = Keys(site)
        self.connections = Connections(address)
        self.leases = Leases(self._renew)
        self.ear = Ear(self.keys.ear(secrets.token_hex(8)), self.connections.subscribe, news.read, self.leases.holds)
        self.connections.breaker.on_open.append(self.ear.let_go)
        self._freeing: set[asyncio.Task[None]] = set()

    def perform(self, operation: Look | Lead | Wait | Finish) -> Any:
        match operation:
            case Look():
                return self.connections.run(self._look(operation))
            case Lead():
                turn = self._perform_lead(operation)
                if isinstance(turn, Held) and not self.ear.listening and self._listen():
                    turn = self._perform_lead(operation)
                return turn
            case Wait():
                return self._heard(operation, self.ear.wait(operation.token, operation.seconds))
            case Finish():
                try:
                    return self.connections.run(self._finish(operation, news.message(operation)))
                finally:
                    self._let_go(operation)

    async def aperform(self, operation: Look | Lead | Wait | Finish) -> Any:
        match operation:
            case Look():
                return await self.connections.arun(self._look(operation))
            case Lead():
                turn = await self._aperform_lead(operation)
                if isinstance(turn, Held) and not self.ear.listening and await self._alisten():
                    turn = await self._aperform_lead(operation)
                return turn
            case Wait():
                return self._heard(operation, await self.ear.await_(operation.token, operation.seconds))
            case Finish():
                try:
                    return await self._aperform_finish(operation)
                finally:
                    self._let_go(operation)

    def _perform_lead(self, lead: Lead) -> Any:
        token = secrets.token_hex(16)
        try:
            return self.connections.run(self._lead(lead, token))
        except Unavailable:
            raise
        except BaseException:  # such as the soft time limit of a task
            with contextlib.suppress(Unavailable):
                self.connections.run(self._abandon(lead.ask, token))
            raise

    async def _aperform_lead(self, lead: Lead) -> Any:
        token = secrets.token_hex(16)
        try:
            return await self.connections.arun(self._lead(lead, token))
        except asyncio.CancelledError:
            self._abandon_later(lead.ask, token)
            raise

    async def _aperform_finish(self, finish: Finish) -> Any:
        try:
            big = news.is_big(finish)
            message = await asyncio.to_thread(news.message, finish) if big else news.message(finish)
            return await self.connections.arun(self._finish(finish, message))
        except asyncio.CancelledError:
            self._abandon_later(finish.ask, finish.token)
            raise

    def _abandon(self, ask: Ask, token: str) -> Plan:
        """Frees a lease that may have been taken for nobody. If this too fails, it ends by itself."""
        finish = Finish(ask, token)
        return self._finish(finish, news.message(finish))

    def _abandon_later(self, ask: Ask, token: str) -> None:
        """Who is cancelled must not wait. On the loop's one line this comes after what is to be undone."""

        async def abandon() -> None:
            with contextlib.suppress(Unavailable):
                await self.connections.arun(self._abandon(ask, token))

        task = asyncio.get_running_loop().create_task(abandon())
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def leads(self, token: str) -> bool:
        """Whether that leader is of this process."""
        return self.leases.holds(token)

    def switch(self, on: bool) -> None:
        """Turns the cache on or off for the whole fleet. Raises Unavailable."""
        self.connections.run(_one("DEL", self.keys.switch) if on else _one("SET", self.keys.switch, "off"))

    def is_on(self) -> bool:
        """Raises Unavailable."""
        return self.connections.run(_one("GET", self.keys.switch)) is None

    def close(self) -> None:
        self.ear.close()
        self.connections.close()

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

    def _lead(self, lead: Lead, token: str) -> Plan:
        ask = lead.ask
        keys = [self.keys.lease(ask), self.keys.entry(ask), self.keys.failed(ask)]
        since = -1 if lead.since == float("inf") else int(lead.since * 1e6)
        ear = self.ear.channel if self.ear.listening else ""
        take = 0 if lead.refresh else 1
        verb, *rest = yield from LEAD(keys, token, _ms(LEASE), ear, take, ask.attempt, since, ask.credential)
        match verb:
            case b"entry":
                entry = _entry(rest[0], ask)
                if entry is None:  # unreadable: whoever leads writes it anew
                    return (yield from self._lead(Lead(ask, lead.since, refresh=True), token))
                return entry
            case b"failed":
                try:
                    return unpack_failure(rest[0])
                except Unreadable:
                    yield ("DEL", keys[2])
                    return (yield from self._lead(lead, token))
            case b"held":
                return Held(rest[0].decode(), max(rest[1], 0) / 1000 + 0.05)
        led = Led(token)
        self.leases.hold(keys[0], led)
        self.connections.breaker.accepted()
        return led

    def _let_go(self, finish: Finish) -> None:
        """Once the lease is free, not before: who is told to look again must not find it held. Without Redis too."""
        self.ear.tell_waiting(finish.token, news.told(finish))
        self.leases.drop(finish.token)

    def _finish(self, finish: Finish, message: tuple[bytes, bytes]) -> Plan:
        kind, payload = message
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
        told = kind in (news.ANSWER, news.FAILED)
        reply = yield from FINISH(
            [keys.lease(ask), keys.entry(ask), keys.lineage(ask), keys.failed(ask)],
            *(finish.token, finish.token.encode() + kind, int(told), payload),
            *(life, lineage, life + _ms(LINEAGE_AFTER)),
            *(memory, ask.attempt, _credential(failure)),
        )
        return reply == b"ours"

    def _heard(self, wait: Wait, told: news.Told) -> news.Told:
        if told is News.LOOK_AGAIN:
            self.connections.breaker.check()
            if self.ear.closed:
                raise Unavailable("closed")
        if isinstance(told, Entry) and not answers(told, wait.ask):
            return News.LOOK_AGAIN
        return told

    def _listen(self) -> bool:
        """Whether the ear hears now. Where it does not, who waits looks again every now and then."""
        standing = self.ear.listen()
        futures.wait({standing}, timeout=2 * BUDGET)
        return self._stands(standing)

    async def _alisten(self) -> bool:
        """As ``_listen``, for a task: it needs no thread of the loop's executor, which may have none left."""
        standing = self.ear.listen()
        await asyncio.wait({asyncio.wrap_future(standing)}, timeout=2 * BUDGET)
        return self._stands(standing)

    def _stands(self, standing: futures.Future[bool]) -> bool:
        try:
            return standing.done() and standing.result()
        except Exception as error:
            self.connections.breaker.trip(error)
            raise Unavailable("unreachable") from error

    def _renew(self, leases: list[Lease]) -> list[bool]:
        """Which are still held. While Redis is away nobody knows: then it is tried again."""
        renewals = [RENEW.commands([key], token, _ms(LEASE)) for key, token in leases]
        try:
            replies = self.connections.pipeline([brief for brief, _ in renewals])
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                whole = self.connections.pipeline([renewals[at][1] for at in unknown])
                for at, reply in zip(unknown, whole, strict=True):
                    replies[at] = reply
        except Unavailable:
            return [True] * len(leases)
        return [isinstance(reply, Exception) or bool(reply) for reply in replies]


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


def _credential(failure: Failure | None) -> str:
    return failure.credential if failure is not None and failure.status in CREDENTIAL_STATUSES else ""
