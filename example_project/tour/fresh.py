"""The steps about changes: an answer dies with the article that it was made from.

They show more than that another text makes another question: what is kept under a tag is counted, a save that leaves
the text as it is ends answers too, and the reasons are the cache's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

from example_project.helpcentre.card import duration
from example_project.tour.records import Outcome, Question, Run, Save
from example_project.tour.stage import Stage
from example_project.tour.step import Step, expect

QUICK: Final = 0.3  # seconds of a call
LONG: Final = 1.5  # of one that goes on while an article is saved
PATIENCE: Final = 10.0  # seconds for a call to begin
SAVER: Final = 3  # the worker that saves; the others ask

CHANGING: Final = Question("acme", "Are there exceptions?", article="Refunds")
OTHER: Final = Question("acme", "Are there exceptions?", article="Warranty")
OF_ALL: Final = Question("acme", "What is free of charge?")
HURRIED: Final = Question("acme", "Who pays for it?", article="Shipping")


class Changed(Step):
    name = "An article is changed"
    promise = "The next answer about it is new, in every process; one about another article stays."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(QUICK):
            before = stage.ask_each(CHANGING, OTHER)
            saved = stage.save(CHANGING, worker=SAVER)
            after = stage.ask_each(OTHER, CHANGING)  # the other way round: each by another process
        return Run([*before, *after], note=f"save() took {duration(saved.seconds)}")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=3, miss=3, hit=1)
        if len(outcome.run.seen) == 4:
            about_it, about_other, other_again, it_again = (seen.text for seen in outcome.run.seen)
            if it_again == about_it:
                yield "the answer was the one from before"
            if other_again != about_other:
                yield "the answer about the other article is another one"


class Overtaken(Step):
    name = "Changed while Claude answers"
    promise = "The old answer comes last and is not kept; who asks meanwhile has a new one."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(LONG):
            stage.workers[0].ask(HURRIED)
            if not stage.until(lambda: stage.upstream.in_flight() == 1, PATIENCE):
                return Run(stage.workers[0].answers(), note="the call never reached Claude")
            stage.upstream.delay(QUICK)
            stage.save(HURRIED, worker=SAVER)
            new = stage.ask_in(1, HURRIED)
            came = time.monotonic()
            [old] = stage.workers[0].answers()
            late = time.monotonic() - came
            return Run([old, new, stage.ask_in(2, HURRIED)], note=f"it came {duration(late)} after the new one")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=2, miss=2, hit=1)
        if len(outcome.run.seen) == 3:
            old, new, last = outcome.run.seen
            if old.reason != "superseded":
                yield "the old answer was kept"
            if old.text == new.text or last.text != new.text:
                yield "the old answer was given to somebody who came after the change"


class Purged(Step):
    name = "manage.py purge_tag"
    promise = "What hangs on the tag dies, and nothing else."

    def run(self, stage: Stage) -> Run:
        self.tag = stage.tags.get(CHANGING.article, "")
        said = stage.manage("purge_tag", self.tag, "--tenant", CHANGING.tenant)
        counted = re.search(rf"(\d+)  {re.escape(self.tag)}$", said, re.MULTILINE)
        self.hung = counted[1] if counted else "?"
        with stage.calls_take(QUICK):
            seen = stage.ask_each(OTHER, CHANGING)
        return Run(seen, note=f"{self.hung} hung on {self.tag}")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1, hit=1)
        reasons = {seen.reason for seen in outcome.run.seen if seen.status == "miss"}
        if reasons != {f"invalidated:{self.tag}"}:
            yield "no purge was the reason"
        if self.hung != "1":  # with the answer from before the change it would be 2
            yield f"1 answer should have hung on it, not {self.hung}"


class KilledSaver(Step):
    name = "Who saves is killed at COMMIT"
    promise = "What was committed is not lost: the next drain applies it."

    def run(self, stage: Stage) -> Run:
        with stage.calls_take(QUICK):
            before = stage.ask_in(0, OF_ALL)
            stage.workers[SAVER].die_saving(Save(CHANGING.tenant, CHANGING.article, as_it_is=True))
            pending = stage.ask_in(1, OF_ALL)
            said = stage.manage("drain_invalidations")
            after = stage.ask_in(2, OF_ALL)
        drained = re.search(r"default: (\d+) applied", said)
        self.drained = drained[1] if drained else "?"
        return Run([before, pending, after], note=f"until then a hit; {self.drained} drained")

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=2, miss=2, hit=1)
        if self.drained != "2":  # its own tag, and that of all articles
            yield f"2 invalidations should have been pending, not {self.drained}"
        if outcome.run.seen and not outcome.run.seen[-1].reason.startswith("invalidated:"):
            yield "the drain was not the reason"
