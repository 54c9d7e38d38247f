"""Redis: keys, connections, scripts, leases. The only place where a key is spelled or a script lives."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from concurrent import futures
from dataclasses import replace
from typing import Any

from redis.exceptions import NoScriptError

from aicache.core.gating import Approach, AtGate, Note, Observe, Quit, Scout, Stay
from aicache.core.live import Live
from aicache.core.operations import Capture, Finish, Lead, Look, Unavailable, Wait
from aicache.core.records import Entry
from aicache.core.turns import Held, Led, News
from aicache.store import news, plans
from aicache.store.address import BUDGET, Address
from aicache.store.connections import Connections, Make
from aicache.store.ear import Ear
from aicache.store.keys import Keys, ear_channel, switch_key
from aicache.store.leases import LEASE, Lease, Leases
from aicache.store.line import ended
from aicache.store.payload import Unreadable, answers, unpack_failure
from aicache.store.prefixes import Prefixes
from aicache.store.scripts import LEAD, RENEW, Plan
from aicache.store.streams import Asked, Streams
from aicache.store.tags import Tags, hang, one

__all__ = ["Address", "Store"]


class Store(Tags):
    """Performs a flow's operations on Redis. Safe for threads and tasks; not across a fork."""

    def __init__(self, address: Address, site: str) -> None:
        super().__init__(Connections(address, site))
        self.leases = Leases(self._renew)
        self.ear = Ear(
            ear_channel(site, secrets.token_hex(8)), self.connections.subscribe, news.read, self.leases.holds
        )
        self.connections.breaker.on_open.append(self.ear.let_go)
        self.streams = Streams(self.connections, self.ear, self.leases)
        self.prefixes = Prefixes(self.connections, self.ear, self.leases, self._listen, self._alisten, self._later)
        self._switch = switch_key(site)
        self._freeing: set[asyncio.Task[None]] = set()

    def perform(self, operation: Look | Capture | Lead | Wait | Finish | Asked | AtGate | Stay) -> Any:
        match operation:
            case Look():
                return self.connections.run(lambda keys, cluster: plans.look(keys, cluster, operation.ask))
            case Capture():
                return self.connections.run(lambda keys, _: plans.capture(keys, operation.ask))
            case Lead():
                turn = self._perform_lead(operation)
                if isinstance(turn, Held) and not self.ear.listening and self._listen():
                    turn = self._perform_lead(operation)
                return turn
            case Wait():
                live = self.ear.live(operation.token)  # first: from now on no piece of it is missed
                if (make := self.streams.so_far(operation, live)) is not None:
                    self.streams.joined(live, self.connections.run(make))
                try:
                    told = self.ear.wait(operation.token, operation.seconds, live, reads=operation.ask.live)
                except BaseException:  # such as the soft time limit of a task
                    with contextlib.suppress(Unavailable):
                        self.connections.run(self.streams.unfollowing(operation))
                    raise
                if told is None and self.ear.listening:
                    with contextlib.suppress(Unavailable):
                        self.connections.run(self.streams.unfollowing(operation))
                return self._heard(operation, told)
            case Finish():
                done = False
                try:
                    done = self.connections.run(self._finishing(operation, self.streams.message(operation)))
                finally:
                    self._let_go(operation, done)
                if done and _hangs(operation):
                    with contextlib.suppress(Unavailable):
                        self.connections.run(_hanging(operation))
                return done
            case Approach() | Stay() | Scout() | Note() | Observe() | Quit():
                return self.prefixes.perform(operation)
            case _:
                return self.streams.perform(operation)

    async def aperform(self, operation: Look | Capture | Lead | Wait | Finish | Asked | AtGate | Stay) -> Any:
        match operation:
            case Look():
                return await self.connections.arun(lambda keys, cluster: plans.look(keys, cluster, operation.ask))
            case Capture():
                return await self.connections.arun(lambda keys, _: plans.capture(keys, operation.ask))
            case Lead():
                turn = await self._aperform_lead(operation)
                if isinstance(turn, Held) and not self.ear.listening and await self._alisten():
                    turn = await self._aperform_lead(operation)
                return turn
            case Wait():
                live = self.ear.live(operation.token)
                try:
                    if (make := self.streams.so_far(operation, live)) is not None:
                        self.streams.joined(live, await self.connections.arun(make))
                    told = await self.ear.await_(operation.token, operation.seconds, live, reads=operation.ask.live)
                except asyncio.CancelledError:
                    # Now: where the loop is ending, nothing is done later.
                    with contextlib.suppress(Unavailable):
                        await self.connections.arun(self.streams.unfollowing(operation))
                    raise
                if told is None and self.ear.listening:
                    with contextlib.suppress(Unavailable):
                        await self.connections.arun(self.streams.unfollowing(operation))
                return self._heard(operation, told)
            case Finish():
                done = False
                try:
                    done = await self._aperform_finish(operation)
                finally:
                    self._let_go(operation, done)
                if done and _hangs(operation):
                    with contextlib.suppress(Unavailable):
                        await self.connections.arun(_hanging(operation))
                return done
            case Approach() | Stay() | Scout() | Note() | Observe() | Quit():
                return await self.prefixes.aperform(operation)
            case _:
                return await self.streams.aperform(operation)

    def _perform_lead(self, lead: Lead) -> Any:
        token = secrets.token_hex(16)
        try:
            return self.connections.run(self._leading(lead, token))
        except Unavailable:
            raise
        except BaseException:  # such as the soft time limit of a task
            with contextlib.suppress(Unavailable):
                self.connections.run(self._abandon(lead, token))
            raise

    async def _aperform_lead(self, lead: Lead) -> Any:
        token = secrets.token_hex(16)
        try:
            return await self.connections.arun(self._leading(lead, token))
        except asyncio.CancelledError:
            self._later(self._abandon(lead, token))
            raise

    async def _aperform_finish(self, finish: Finish) -> Any:
        try:
            big = news.is_big(finish)
            message = await asyncio.to_thread(self.streams.message, finish) if big else self.streams.message(finish)
            return await self.connections.arun(self._finishing(finish, message))
        except asyncio.CancelledError:
            self._later(self._abandon(finish, finish.token))
            raise

    def _abandon(self, of: Lead | Finish, token: str) -> Make:
        """Frees a lease that may have been taken for nobody. If this too fails, it ends by itself."""
        finish = Finish(of.ask, of.stamps, token)
        return self._finishing(finish, news.message(finish))

    def _later(self, make: Make) -> None:
        """Who is cancelled must not wait. On the loop's one line this comes after what is to be undone."""

        async def run() -> None:
            with contextlib.suppress(Unavailable):
                await self.connections.arun(make)

        task = asyncio.get_running_loop().create_task(run())
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def leads(self, token: str) -> bool:
        """Whether that leader is of this process."""
        return self.leases.holds(token)

    def switch(self, on: bool) -> None:
        """Turns the cache on or off for the whole fleet. Raises Unavailable."""
        command = ("DEL", self._switch) if on else ("SET", self._switch, "off")
        self.connections.run(lambda *_: one(*command))

    def is_on(self) -> bool:
        """Raises Unavailable."""
        return self.connections.run(lambda *_: one("GET", self._switch)) is None

    def close(self) -> None:
        self.ear.close()
        self.connections.close()

    def _leading(self, lead: Lead, token: str) -> Make:
        return lambda keys, _: self._lead(keys, lead, token)

    def _finishing(self, finish: Finish, message: tuple[bytes, bytes]) -> Make:
        return lambda keys, _: plans.finish(keys, finish, message)

    def _lead(self, keys: Keys, lead: Lead, token: str) -> Plan:
        ask = lead.ask
        wanted = [keys.lease(ask, lead.stamps), keys.entry(ask), keys.failed(ask), keys.mark(ask)]
        wanted.append(keys.live(ask, lead.stamps))
        since = -1 if lead.since == float("inf") else int(lead.since * 1e6)
        channel = self.ear.channel if lead.waits and self.ear.listening else ""
        take = b"" if lead.refresh else lead.stamps.mark
        verb, *rest = yield from LEAD(
            *(wanted, token, plans.milliseconds(LEASE), channel, take, ask.attempt, since, ask.credential),
            news.LOOK_AGAIN,
        )
        match verb:
            case b"entry":
                entry = plans.entry_for(rest[0], ask)
                if entry is None:  # unreadable: whoever leads writes it anew
                    return (yield from self._lead(keys, replace(lead, refresh=True), token))
                return entry
            case b"failed":
                try:
                    return unpack_failure(rest[0])
                except Unreadable:
                    yield ("DEL", wanted[2])
                    return (yield from self._lead(keys, lead, token))
            case b"held":
                return Held(rest[0].decode(), max(rest[1], 0) / 1000 + 0.05)
            case b"outgrown":
                return News.NOT_SHARED
        led = Led(token)
        self.leases.hold((wanted[0], wanted[3], wanted[4]), led)
        self.connections.breaker.accepted()
        return led

    def _let_go(self, finish: Finish, done: bool) -> None:
        """Once the lease is free, not before: who is told to look again must not find it held. Without Redis too."""
        self.ear.tell_waiting(finish.token, news.said(finish, done))
        self.leases.drop(finish.token)
        self.streams.over(finish.token)

    def _heard(self, wait: Wait, told: news.Told | Live | None) -> news.Told | Live:
        if told is None:
            told = News.LOOK_AGAIN
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
        await ended(standing, 2 * BUDGET)
        return self._stands(standing)

    def _stands(self, standing: futures.Future[bool]) -> bool:
        try:
            return standing.done() and standing.result()
        except Exception as error:
            self.connections.breaker.trip(error)
            raise Unavailable("unreachable") from error

    def _renew(self, leases: list[Lease]) -> list[bool]:
        """Which are still held. While Redis is away nobody knows: then it is tried again."""
        own = plans.milliseconds(LEASE), self.ear.channel
        renewals = [RENEW.commands([*keys], token, *own) for keys, token in leases]
        try:
            replies = self.connections.pipeline([brief for brief, _ in renewals])
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                whole = self.connections.pipeline([renewals[at][1] for at in unknown])
                for at, reply in zip(unknown, whole, strict=True):
                    replies[at] = reply
        except Unavailable:
            return [True] * len(leases)
        for (_, token), reply in zip(leases, replies, strict=True):
            if isinstance(reply, int) and reply:
                self.streams.followed_elsewhere(token, reply - 1)
        return [isinstance(reply, Exception) or bool(reply) for reply in replies]


def _hangs(finish: Finish) -> bool:
    return finish.entry is not None and finish.keep and bool(finish.ask.tags)


def _hanging(finish: Finish) -> Make:
    """What nothing rests on, and nobody waits for: it comes last, and may fail."""
    return lambda keys, _: hang(keys, finish.ask, finish.entry)
