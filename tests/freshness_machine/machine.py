"""Readers, savers and what befalls them, in any order that hypothesis can think of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from aicache.core import tags
from aicache.core.operations import Unavailable
from aicache.core.policy import Policy
from aicache.core.records import Ask
from aicache.core.tags import EVERYBODY, Tag, members, of_answer
from tests.freshness_machine.oracle import QUESTIONS, Broken
from tests.freshness_machine.stage import OPEN
from tests.freshness_machine.world import World

ACME, GLOBEX = "a" * 32, "b" * 32
TENANTS: Final = {"acme": ACME, "globex": GLOBEX}
LINEAGE: Final = "c" * 64
STALE: Final[Any] = {"stale_while_revalidate": 600.0}
STRICTLY: Final[Any] = {"consistency": "strict"}
POLICIES: Final = {
    "plain": Policy("plain", ttl=60, jitter=0),
    "stale": Policy("stale", ttl=60, jitter=0, **STALE),
    "strict": Policy("strict", ttl=60, jitter=0, **STRICTLY),
    "strict+stale": Policy("strict+stale", ttl=60, jitter=0, **STALE, **STRICTLY),
}
DEATHS: Final = {
    "a row of acme's": (Tag("m:1", ACME), Tag(members("m"), ACME)),
    "a row of everybody's": (Tag("m:1", EVERYBODY), Tag(members("m"), EVERYBODY)),
    "a row of globex's": (Tag("m:1", GLOBEX), Tag(members("m"), GLOBEX)),
    "acme's label": (Tag("m", ACME),),
    "everybody's label": (Tag("m", EVERYBODY),),
    "an answer": (of_answer(LINEAGE, "1" * 64, ACME),),
    "another answer": (of_answer(LINEAGE, "2" * 64, ACME),),
}
STAMP: Final = "*:s:" + Tag("m:1", ACME).digest
EVICTED: Final = {
    "a stamp": STAMP,
    "another stamp": "*:s:" + Tag("m", EVERYBODY).digest,
    "all stamps": "*:s:*",
    "entries": "*:e:*",
    "leases": "*:w:*",
    "marks": "*:m:*",
    "lineages": "*:l",
    "what is known of tags": "*:on",
    "everything": "*",
}
PASSES: Final = {"7 s": 7.0, "65 s": 65.0, "700 s": 700.0, "40 days": 40 * 24 * 3600.0}

EVERY_ASK: Final = [f"{who} {what} {how}" for who in ("acme", "acme", "globex") for what in "112" for how in POLICIES]
NAMED: Final = [f"{ask} {name}" for ask in EVERY_ASK for name in ("key", "key", "other", f"key{OPEN}")]
OUTAGES: Final = [
    "the server is away",
    "a reply is lost",
    "the database is away",
    "a row's reply is lost",
    "upstream fails",
]
SNAPSHOTS: Final = ["a snapshot", "another server with the snapshot"]
KILLS: Final = ["a process is killed", "a caller is gone"]
HELPERS: Final = ["a drain", "a reclaim"]
WRITES: Final = ["a write", "a write"]
ALL: Final = ["everybody goes on", "everybody goes on"]
EVERYTHING: Final = [
    *EVICTED,
    *PASSES,
    "65 s",
    *OUTAGES,
    *SNAPSHOTS,
    *SNAPSHOTS,
    "another server",
    *KILLS,
    *HELPERS,
    *HELPERS,
    *WRITES,
]

# How far somebody comes in one move: so many steps, or to where upstream is called, or what is committed is told to
# Redis, or stamps are taken, or as far as it goes.
UPSTREAM, TELLS, CAPTURES, END = (99, "upstream"), (99, "STAMP_AGAIN"), (99, "CAPTURE"), (99, "")
FAR: Final = st.sampled_from([(1, ""), (2, ""), (3, ""), UPSTREAM, UPSTREAM, END, END, END])
NEAR: Final = st.sampled_from([(1, ""), (2, ""), (3, ""), END])
ANY: Final = st.integers(0, 3)


@st.composite
def moves(draw: st.DrawFn) -> str:
    """One of what there is in the machine that runs."""
    machine: Any = draw(st.runner())
    kind = draw(
        st.sampled_from(["asks"] * 6 + ["deaths"] * 4 + ["go on"] * machine.goes_on + ["happens"] * machine.often)
    )
    if kind == "deaths" and machine.inside and draw(st.booleans()):
        return f"inside {draw(st.sampled_from(machine.deaths))}"
    return kind if kind == "go on" else draw(st.sampled_from(getattr(machine, kind)))


def an_ask(words: str) -> tuple[Ask, str]:
    """And the idempotency key that it is asked under."""
    tenant, question, policy, *name = words.split(" ")
    digest = TENANTS[tenant]
    hanging = tags.hanging(QUESTIONS[question], digest)
    return Ask(question * 64, LINEAGE, digest, POLICIES[policy], tags=hanging), "".join(name)


class Machine(RuleBasedStateMachine):
    """``asks``, ``deaths``, ``happens``: what there is in this one."""

    asks: ClassVar[Sequence[str]] = EVERY_ASK
    deaths: ClassVar[Sequence[str]] = list(DEATHS)
    happens: ClassVar[Sequence[str]] = EVERYTHING
    inside: ClassVar[bool] = False
    often: ClassVar[int] = 3
    goes_on: ClassVar[int] = 7
    far: ClassVar[Any] = FAR
    processes: ClassVar[int] = 2
    settles: ClassVar[bool] = True
    durable: ClassVar[bool] = False
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.world = self.make()
        if not self.settles:
            self.world.forgives = (*self.world.forgives, Unavailable)

    def make(self) -> World:
        raise NotImplementedError

    @rule(what=moves(), which=ANY, far=st.runner().flatmap(lambda machine: machine.far), flips=st.booleans())
    def move(self, what: str, which: int, far: Any, flips: bool) -> None:
        """``which`` process or actor, ``far``: how far it comes, ``flips``: nodes answer in another order."""
        world, process = self.world, self.world.processes[which % len(self.world.processes)]
        actor = world.actors[which % len(world.actors)] if world.actors else None
        world.flips(flips)
        world.count_down()
        if what.partition(" ")[0] in TENANTS:
            world.move(world.ask(process, *an_ask(what)), *far)
        elif what in DEATHS:
            world.move(world.save(process, DEATHS[what], deletes=flips), *far)
        elif what.startswith("inside "):
            tags = DEATHS[what.removeprefix("inside ")]
            world.move(world.save_and_ask(process, tags, an_ask("acme 1 plain")[0], commits=flips), *far)
        elif what == "a drain":
            world.move(world.drain(process), *far)
        elif what == "a reclaim":
            world.move(world.reclaim(process), *far)
        elif what == "a write":
            world.write(process, which)
        elif what == "everybody goes on":
            for each in list(world.actors):
                world.move(each, *END)
        elif what == "go on":
            if actor is not None:
                if not actor.ready:
                    actor.impatient, actor.held = True, None
                world.move(actor, *far)
        elif what == "a caller is gone":
            if actor is not None:
                world.drop(actor)
        elif what == "a process is killed":
            world.kill(process)
            world.start()
        elif what in EVICTED:
            world.evict(EVICTED[what])
        elif what in PASSES:
            world.pass_by(PASSES[what])
        else:
            world.befall(what, which + 1)

    def teardown(self) -> None:
        try:
            if self.settles and sys.exc_info()[0] is None:
                self.world.settle()
                self.serve_again()
        finally:
            self.world.end()

    def serve_again(self) -> None:
        """Once all is quiet, a second caller has the first one's answer; whatever Redis loses, and under a key too."""
        world = self.world
        for process in world.processes:
            self._expect("hit", process, "acme 1 strict")
        if world.durable:
            world.pass_by(7)  # what has failed just now is not asked
            self._expect("hit copy", process, "acme 1 strict", flushed=True)
            self._expect("hit idempotency_key", process, "acme 1 strict last")

    def _expect(self, status: str, process: Any, words: str, *, flushed: bool = False) -> None:
        told = ""
        for _ in range(3):  # the first may be the one that finds out that the server is another by now
            if flushed:
                self.world.evict("*")
            before, told = told, self.world.served(process, *an_ask(words))
            self.world.settle()
        if told != status:
            raise Broken(f"NEVER: after {before}, a caller had {told}, not {status}")
