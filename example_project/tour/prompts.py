"""The step about requests that begin alike: the provider charges for writing that beginning to its prompt cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from example_project.tour.records import Outcome, Question, Run, Seen
from example_project.tour.stage import Stage
from example_project.tour.step import Step, expect

PANELS: Final = ("What is your lightest tent?", "Do you sell kayaks?", "Which boots are in the shop?", "What is new?")
MEASURED, GATED = "chat", "panels"


class Panels(Step):
    name = "Four about the catalogue, twice"
    promise = "Asked at the same time, each pays for writing it to the prompt cache; behind the gate, one does."

    def run(self, stage: Stage) -> Run:
        self.without, self.gated = (
            stage.ask_each(*(Question("acme", text, catalogue=policy, policy=policy) for text in PANELS))
            for policy in (MEASURED, GATED)
        )
        at_the_gate = Counter(one.prompt_cache for one in self.gated)
        note = f"{_writes(self.without)} paid for it, then {_writes(self.gated)}; {at_the_gate['wait']} waited"
        return Run([*self.without, *self.gated], note=note)

    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]:
        yield from expect(outcome, calls=2 * len(PANELS), miss=2 * len(PANELS))
        if (paid := _writes(self.gated)) != 1:
            yield f"behind the gate {paid} paid for writing it"
        if sum(one.tokens_read > 0 for one in self.gated) != len(PANELS) - 1:
            yield "not all the others read it"


def _writes(seen: list[Seen]) -> int:
    return sum(one.tokens_written > 0 for one in seen)
