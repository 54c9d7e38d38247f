"""The steps about what the database keeps: idempotency keys, copies of answers, counts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from example_project.tour.fresh import QUICK
from example_project.tour.records import Outcome, Question, Run
from example_project.tour.stage import Stage
from example_project.tour.step import Step, expect

# Asked anew, so that no kept answer can stand in for the one under the key.
ONCE: Final = Question("acme", "Please write to me about my order.", refresh=True, once="order-42")
ANOTHER: Final = replace(ONCE, text="Please cancel my order.")

STAYING: Final = Question("acme", "Who pays for the parcel?", article="Shipping")
ENDING: Final = Question("acme", "What is written about parcels?")  # made from all articles
SAVED: Final = Question("acme", "", article="Opening hours")
SAVER: Final = 2
WRITTEN: Final = 5.0  # seconds within which a copy is written

TOLD: Final = 1.0  # seconds after which every process has reported what it did


class Once(Step):
    name = "Twice under one idempotency key"
    promise = "One call, in two processes at once and later too; another request is refused."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(QUICK):
            both = stage.ask_each(ONCE, ONCE)
            again = stage.ask_in(2, ONCE)
            refused = stage.ask_in(1, ANOTHER)
        return Run([*both, again, refused], note=f"differs: {refused.differs or 'nothing'}")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1, shared=2, error=1)
        if len(outcome.run.seen) == 4:
            *same, refused = outcome.run.seen
            if len({seen.text for seen in same}) != 1:
                yield "the answers were different"
            if sorted(seen.reason for seen in same) != ["idempotency_key", "idempotency_key", "refresh"]:
                yield "the key was not the reason"
            if refused.differs != "body.messages[0]":
                yield f"the question differed, and not {refused.differs or 'nothing'}"


class Flushed(Step):
    name = "Redis is flushed"
    promise = "A living answer comes back from the database; one that has died does not."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(QUICK):
            before = stage.ask_each(STAYING, ENDING)
            keys = [seen.key for seen in before]
            self.kept = stage.until(lambda: stage.workers[0].copied(keys), WRITTEN)
            stage.valkey.flush()
            stage.save(SAVED, worker=SAVER, as_it_is=True)
            after = [stage.ask_in(0, STAYING), stage.ask_in(1, STAYING), stage.ask_in(0, ENDING)]
        return Run([*before, *after], note="a hit from the database, then one from Redis")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=3, miss=3, hit=2)
        if not self.kept:
            yield "the database was given no copies"
        if len(outcome.run.seen) == 5:
            living, dead, copy, hit, anew = outcome.run.seen
            if (copy.reason, hit.reason) != ("copy", ""):
                yield f"the reasons of the hits were {copy.reason or 'none'} and {hit.reason or 'none'}"
            if not living.text == copy.text == hit.text:
                yield "the living answer was another one"
            if anew.key != dead.key or not anew.reason.startswith("invalidated:"):
                yield "the change was not the reason"


class Counts(Step):
    name = "manage.py cache_stats"
    promise = "Its figures are Claude's own; what the killed could not report is shown as lost."

    def run(self, stage: Stage) -> Run:
        time.sleep(TOLD)
        told = json.loads(stage.manage("cache_stats", "--json"))
        reported: Counter[str] = Counter()
        for figures in told["tenants"].values():
            reported.update({name: figure for name, figure in figures.items() if isinstance(figure, int)})
        self.reported, self.lost, self.arrived = reported, int(told["lost"]), stage.upstream.count()
        note = f"{reported['upstream_calls']} calls reported, {self.arrived} came, at most {self.lost} lost"
        return Run([], note=note, printed=stage.manage("cache_stats"))

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=0)
        heard = Counter(seen.status for seen in stage.heard)
        for figure, there_were in {"upstream_calls": self.arrived, "calls": heard.total(), **heard}.items():
            # No more is reported than there was, and no more is missing than is said to be lost.
            if not self.reported[figure] <= there_were <= self.reported[figure] + self.lost:
                yield f"{figure} should have been {there_were}, not {self.reported[figure]}"
        tokens = sum(seen.tokens_saved for seen in stage.heard)
        if self.reported["calls"] == heard.total() and self.reported["saved_tokens"] != tokens:
            yield f"saved_tokens should have been {tokens}, not {self.reported['saved_tokens']}"
