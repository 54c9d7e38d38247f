"""The step about an answer that is read while it is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from example_project.helpcentre.card import duration
from example_project.tour.records import Outcome, Question, Run
from example_project.tour.stage import Stage
from example_project.tour.step import Step, expect, one_answer

STORY: Final = Question("acme", "Tell me how you began.", stream=True)
TOLD: Final = (
    "It began with one roaster in a garage, and a neighbour who complained of the smell until she had a cup. " * 2
)
PAUSE: Final = 0.08  # seconds before each few words
MIDDLE: Final = 0.5
PATIENCE: Final = 10.0


class Streamed(Step):
    name = "A stream; others join in the middle"
    promise = "They see it from its first word and as it comes, or get the whole; one call."

    def run(self, stage: Stage) -> Run:
        self.is_slow = stage.upstream.slowly(TOLD, PAUSE)
        first, second, plain = stage.workers[:3]
        first.ask(STORY)
        if not stage.until(lambda: stage.upstream.in_flight() == 1, PATIENCE):
            return Run(first.answers(), note="the call never reached Claude")
        time.sleep(MIDDLE)
        second.ask(STORY)
        plain.ask(Question(STORY.tenant, STORY.text))
        seen = [worker.answers()[0] for worker in (first, second, plain)]
        joined = seen[1]
        note = (
            f"who joined saw the first word after {duration(joined.first)}, the last after {duration(joined.seconds)}"
        )
        return Run(seen, note=note)

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=1, miss=1, shared=2)
        yield from one_answer(outcome)
        if self.is_slow and len(outcome.run.seen) == 3 and outcome.run.seen[1].first > outcome.run.seen[1].seconds / 2:
            yield "who joined saw it late"
