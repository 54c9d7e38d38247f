"""Processes of a site, one Valkey, one database; and who is at work in them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import OperationalError

from aicache import frame
from aicache.cache import Cache
from aicache.core.fingerprint import Question
from aicache.core.flow import Serving, alone, serve
from aicache.core.once import once
from aicache.core.operations import Unavailable
from aicache.core.records import Answer, Ask, Called, Pin
from aicache.core.tags import Tag
from aicache.durable import Durable
from aicache.freshness import drain, outbox
from tests.freshness_machine.actors import Actor, Life, pause
from tests.freshness_machine.backlog import Backlog
from tests.freshness_machine.database import Database
from tests.freshness_machine.oracle import Broken, Oracle, Request, concerns
from tests.freshness_machine.stage import OPEN, PROBE, clock, shown

WHOLE: Final = {"type": "message", "stop_reason": "end_turn"}
# That of all of them, as far as an idempotency key compares it.
QUESTION: Final = Question("/v1/messages", "", {}, {})


class Upset(Exception):
    """What a call of upstream raises."""


class Process(Life):
    """Its store, and its cache over it. What another one has in its place when this is killed."""

    store: Any
    cache: Driven


class Driven(Cache):
    """What it does in the background is somebody's work, as all else."""

    def __init__(self, process: Process, world: World) -> None:
        self.backlog = Backlog()
        super().__init__(process.store, Durable("site", "default", self.backlog) if world.durable else None)
        self._process = process
        self._world = world
        if self.durable is not None:
            self.leases._thread = threading.main_thread()  # time passes only when it is said to

    @property
    def leases(self) -> Any:
        """Of its claims."""
        return self.durable and self.durable.claims._leases

    def renew(self) -> None:
        """As the thread of its leases would, for those whose callers live."""
        held = self.leases._held.items() if self.leases else ()
        with contextlib.suppress(OperationalError):
            if alive := [(names, token) for token, (names, led) in held if led() is not None]:
                self.durable.claims._prolong(alive)

    def _start(self, flow: Any, call: Callable[[], Called]) -> bool:
        self._world.act("a renewal", self._process, lambda: self._quietly(flow, call))
        return True


class Connection:
    """A database connection with an open transaction: what the outbox looks at."""

    def __init__(self, hook: outbox.Applying) -> None:
        self.run_on_commit: list[Any] = [(set(), hook, True)]
        self._thread_ident = threading.get_ident()


class World:
    """What there is, and what can happen to it. ``forgives``: what a caller may be raised."""

    owns = True

    def __init__(self, *, durable: bool = False) -> None:
        shown.world = self
        self.durable = durable
        clock.now = 1_000_000.0
        self.forgives: tuple[type[BaseException], ...] = (Upset,)
        self.oracle = Oracle(self.owns)
        self.database = Database(self.oracle.acknowledged)
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self.fails_next = False

    # Who is at work.

    def act(self, name: str, process: Any, act: Callable[[], Any]) -> Actor:
        actor = Actor(name, process, act)
        self.actors.append(actor)
        self.move(actor, 1)
        return actor

    def move(self, actor: Actor, steps: int, until: str = "") -> None:
        """Some steps of one, unless it has to wait or comes to where it is wanted."""
        while steps and actor.ready:
            actor.advance()
            steps -= 1
            if until and actor.at == until:
                break
        if actor.done and actor in self.actors:
            self._ended(actor)

    def _ended(self, actor: Actor) -> None:
        self.actors.remove(actor)
        error, actor.error = actor.error, None
        if error is not None and not isinstance(error, self.forgives):
            raise error

    def ask(self, process: Process, ask: Ask, name: str = "") -> Actor:
        """``name``: the idempotency key that it is asked under, with OPEN by whoever may not write a claim now."""
        return self.act(f"a reader of {_shown(ask)} {name}", process, lambda: self._ask(process, ask, name))

    def _ask(self, process: Process, ask: Ask, name: str = "", *, inside: bool = False) -> str:
        """→ status and reason."""
        request = self.oracle.request(ask, process, clock.now, inside=inside)
        served = process.cache.serve(_serving(ask, name), lambda form: self._upstream(request))
        self.oracle.judge(request, served)
        return f"{served.status} {served.reason}".strip()

    def _upstream(self, request: Request) -> Called:
        body = self.oracle.call(request)
        pause("upstream")
        clock.now += 0.001  # what is newer is known by it
        if self.fails_next:
            self.fails_next = False
            raise Upset
        return Called(None, Answer(body), WHOLE)

    def save(self, process: Process, tags: Sequence[Tag], *, deletes: bool = False) -> Actor:
        """``deletes``: copies of answers that are tagged so, in the same transaction, as the admin does."""

        def act() -> None:
            pause("COMMIT")
            if deletes:
                purged = [tag.answer for tag in tags]
                self.database.copies.remove(lambda copy: (copy.owner, copy.lineage, copy.key) in purged)
            self._commit(process, tags, _hook(tags))

        return self.act(f"a saver of {_named(tags)}", process, act)

    def save_and_ask(self, process: Process, tags: Sequence[Tag], ask: Ask, *, commits: bool) -> Actor:
        """In one transaction, which may be rolled back."""

        def act() -> None:
            hook = _hook(tags)
            connection = Connection(hook)
            outbox._busy.add(connection)
            try:
                inside = any(concerns(tag, ask) for tag in tags)
                self._ask(process, ask, inside=inside)
                pause("COMMIT" if commits else "ROLLBACK")
            finally:
                connection.run_on_commit.clear()
            if commits:
                self._commit(process, tags, hook)

        return self.act(f"a transaction on {_named(tags)} that asks {_shown(ask)}", process, act)

    def _commit(self, process: Process, tags: Sequence[Tag], hook: outbox.Applying) -> None:
        deaths = self.oracle.committed(tags, process)
        hook.ids = dict(zip(tags, self.database.commit(deaths), strict=False))
        hook()
        self.oracle.returned(deaths)

    def drain(self, process: Process) -> Actor:
        return self.act("a drain", process, lambda: _in_spite_of(drain.drain))

    def reclaim(self, process: Process) -> Actor:
        return self.act("a reclaim", process, lambda: _in_spite_of(lambda: process.store.reclaim(3)))

    def write(self, process: Process, which: int = 0) -> None:
        """What it kept to itself so far: a copy, or what is pinned."""
        if process.cache.backlog.due:
            self.act("a writer", process, lambda: process.cache.backlog.write(which))

    # What befalls them.

    def kill(self, process: Process) -> None:
        process.dead = True
        self.processes.remove(process)
        for actor in [actor for actor in self.actors if actor.life is process]:
            while not actor.done:
                actor.held = None
                actor.advance()
            self._ended(actor)

    def drop(self, actor: Actor) -> None:
        """A caller's own end. The probe has it with its process alone."""
        if actor.name != PROBE:
            actor.drop()
            self.move(actor, 0)

    def befall(self, what: str, moves: int) -> None:
        match what:
            case "the database is away":
                self.database.away = moves
            case "a row's reply is lost":
                self.database.loses_reply = True
            case "upstream fails":
                self.fails_next = True

    def count_down(self) -> None:
        """Outages last for some moves."""
        self.database.away = max(self.database.away - 1, 0)

    def start(self) -> None:
        raise NotImplementedError

    def pass_by(self, seconds: float) -> None:
        clock.now += seconds
        for process in self.processes:
            process.cache.renew()

    def evict(self, pattern: str) -> None:
        raise NotImplementedError

    def flips(self, flips: bool) -> None:
        """In which order the next commands reach the nodes of a cluster."""

    # What becomes of them.

    def settle(self) -> None:
        """Everything works again, and everybody comes to an end. Raises Broken where somebody does not."""
        self.bring_back()
        for _ in range(500):
            for process in self.processes:
                self.write(process)
            if not self.actors:
                return
            ready = [actor for actor in self.actors if actor.ready]
            if not ready:
                self.pass_by(7.0)  # leases of the dead end
            for actor in ready:
                self.move(actor, 3)
        raise Broken("HANGS: " + ", ".join(f"{actor.name} at {actor.at}" for actor in self.actors))

    def bring_back(self) -> None:
        self.database.away = 0
        self.database.loses_reply = False
        self.fails_next = False

    def served(self, process: Process, ask: Ask, name: str = "") -> str:
        """The status and reason that one caller comes to, alone."""
        status: list[str] = []
        self.move(self.act("the last reader", process, lambda: status.append(self._ask(process, ask, name))), 1000)
        return "".join(status)

    def end(self) -> None:
        for process in list(self.processes):
            self.kill(process)


def _serving(ask: Ask, name: str) -> Serving:
    """As claude/request.py and memo.py do, and frame.py for them."""
    if (dying := outbox.uncommitted(ask.tags)) is not None:
        return alone("bypass", f"uncommitted:{dying.shown}")
    if frame.purged_here(ask):
        return alone("bypass", "uncommitted:answer")
    pin = Pin(name.removesuffix(OPEN), ask, QUESTION)
    return once(pin, lambda: serve(ask)) if name else serve(ask)


def _hook(tags: Sequence[Tag]) -> outbox.Applying:
    hook = outbox.Applying("default", "save", None)
    hook.dying.update(dict.fromkeys(tags, ""))
    return hook


def _in_spite_of(act: Callable[[], Any]) -> None:
    """Commands and tasks that meet an outage say so and end."""
    with contextlib.suppress(Unavailable, OperationalError):
        act()


def _shown(ask: Ask) -> str:
    return f"{ask.key[0]} of {ask.tenant[0]} ({ask.policy.name})"


def _named(tags: Sequence[Tag]) -> str:
    return ", ".join(f"{tag.name} of {tag.tenant[:4]}" for tag in tags)
