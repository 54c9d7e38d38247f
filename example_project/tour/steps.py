"""The steps of the tour: what is done, what is promised, and how it is checked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from example_project.helpcentre.card import duration
from example_project.tour.database import Counts, Flushed, Once
from example_project.tour.fresh import Changed, KilledSaver, Overtaken, Purged
from example_project.tour.prompts import Panels
from example_project.tour.records import Outcome, Question, Run, Seen
from example_project.tour.stage import Stage
from example_project.tour.step import Step, expect, one_answer
from example_project.tour.streams import Streamed

REFUND: Final = "Can I get my money back?"
DELIVERY: Final = "How long does delivery take?"
HOURS: Final = "When are you open?"
GIFT: Final = "Do you wrap presents?"
REPAIR: Final = "Do you repair things?"

THREADS: Final = 25
WAITERS: Final = 5  # in each of two processes
SLOW: Final = 2.0  # seconds: long enough to be killed in
NOTICED: Final = 10.0  # seconds within which a dead leader is replaced
BUDGET: Final = 0.5  # seconds that a Redis that is away may cost: the cache's own 0.2, and what a busy machine adds
RECOVERED: Final = 5.0  # seconds after which a Redis that is back is used again


class First(Step):
    name = "A new question"
    promise = "Claude is called once."

    def run(self, stage: Stage) -> Run:
        return Run([stage.ask("acme", REFUND)])

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1)


class Again(Step):
    name = "The same, in another process"
    promise = "The same answer, and no call."

    def run(self, stage: Stage) -> Run:
        self.before = stage.answer_of("acme", REFUND)
        return Run([stage.ask("acme", REFUND, worker=1)])

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=0, hit=1)
        if outcome.run.seen[0].text != self.before:
            yield "the answer was another one"


class Crowd(Step):
    name = "A new one, 100 times at once"
    promise = "4 processes × 25 threads, one call, 100 equal answers."

    def run(self, stage: Stage) -> Run:
        return Run(stage.ask_at_once("acme", DELIVERY, stage.workers, THREADS))

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1, shared=len(stage.workers) * THREADS - 1)
        yield from one_answer(outcome)


class OtherTenant(Step):
    name = "The first, at the other company"
    promise = "An answer of its own: Acme's is never shown at Globex."

    def run(self, stage: Stage) -> Run:
        return Run([stage.ask("globex", REFUND)])

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1)
        if outcome.run.seen[0].text == stage.answer_of("acme", REFUND):
            yield "the answer was Acme's"


class Bypass(Step):
    name = "The first, past the cache"
    promise = "Claude is called, although an answer is kept."

    def run(self, stage: Stage) -> Run:
        return Run([stage.ask("acme", REFUND, bypass=True)])

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, bypass=1)


class KilledLeader(Step):
    name = "A new one; who calls is killed"
    promise = f"Those who wait have their answer within {NOTICED:.0f} s plus the call, by one more call."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(SLOW):
            return self._kill(stage)

    def _kill(self, stage: Stage) -> Run:
        stage.victim.ask(Question("acme", REPAIR))
        if not stage.until(lambda: stage.upstream.in_flight() == 1, SLOW):
            return Run([], lost=1, note="the call never reached Claude")
        waiting = stage.workers[:2]
        for worker in waiting:
            worker.ask(Question("acme", REPAIR, WAITERS))
        time.sleep(SLOW / 4)  # they are all waiting by now
        stage.victim.kill()
        killed = time.monotonic()
        seen = [one for worker in waiting for one in worker.answers()]
        took = time.monotonic() - killed
        return Run(seen, lost=1, measured=took, note=f"answered {duration(took)} after the kill")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=2, miss=1, shared=2 * WAITERS - 1)
        yield from one_answer(outcome)
        if outcome.run.measured > NOTICED + max(SLOW, stage.upstream.seconds()):
            yield "it took too long"


class RedisStopped(Step):
    name = "Redis is stopped"
    promise = "The answers still come, at most half a second later."

    def run(self, stage: Stage) -> Run:
        stage.valkey.stop()
        seen: list[Seen] = []
        extra: list[float] = []
        for _ in range(2):
            seen.append(stage.ask("acme", HOURS))
            extra.append(max(seen[-1].seconds - stage.upstream.seconds(), 0.0))
        return Run(seen, measured=max(extra), note=f"extra time: {duration(extra[0])}, then {duration(extra[1])}")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=2, degraded=2)
        if not all(seen.text for seen in outcome.run.seen):
            yield "there was no answer"
        if outcome.run.measured > BUDGET:
            yield f"it took {duration(outcome.run.measured)} longer"


class RedisBack(Step):
    name = "Redis is started again"
    promise = f"It is used again within {RECOVERED:.0f} s, with nobody's help."

    def run(self, stage: Stage) -> Run:
        stage.valkey.start()
        back = time.monotonic()
        seen: list[Seen] = []
        # Each question asked too early costs a call; a pause first, as the site looks for Redis twice a second.
        while not seen or (seen[-1].status == "degraded" and time.monotonic() - back < RECOVERED):
            time.sleep(0.75)
            seen.append(stage.ask("acme", GIFT))
        took = time.monotonic() - back - seen[-1].seconds
        return Run([*seen, stage.ask("acme", GIFT)], measured=took, note=f"used again {duration(took)} later")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        degraded = outcome.statuses["degraded"]
        yield from expect(outcome, calls=degraded + 1, degraded=degraded, miss=1, hit=1)
        if outcome.run.measured > RECOVERED:
            yield "it took too long"


STEPS: Final[tuple[type[Step], ...]] = (
    First,
    Again,
    Crowd,
    OtherTenant,
    Bypass,
    KilledLeader,
    Streamed,
    Panels,
    Once,
    Changed,
    Overtaken,
    Purged,
    KilledSaver,
    Flushed,
    RedisStopped,
    RedisBack,
    Counts,
)
