"""What a step of the tour is, and how it is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Final

from example_project.tour.records import Outcome, Run
from example_project.tour.stage import Stage

SHARED: Final = ("coalesced", "hit")


class Step(ABC):
    """``check`` yields what was not as promised, one sentence each; nothing = all well."""

    name: str
    promise: str

    @abstractmethod
    def run(self, stage: Stage) -> Run: ...

    @abstractmethod
    def check(self, outcome: Outcome, stage: Stage) -> Iterator[str]: ...


def expect(outcome: Outcome, *, calls: int, shared: int = 0, **statuses: int) -> Iterator[str]:
    """These statuses and no others, and so many calls. ``shared``: coalesced or hit, as it happened to fall."""
    expected, seen = Counter(statuses), outcome.statuses
    if shared:
        expected["coalesced or hit"] = shared
        seen["coalesced or hit"] = sum(seen.pop(status, 0) for status in SHARED)
    if seen != expected:
        yield f"expected {counted(expected)}, saw {counted(outcome.statuses)}"
    if outcome.calls != calls:
        yield f"expected {calls} call{'' if calls == 1 else 's'} to Claude, saw {outcome.calls}"


def one_answer(outcome: Outcome) -> Iterator[str]:
    texts = {seen.text for seen in outcome.run.seen}
    if len(texts) != 1 or "" in texts:
        yield f"there were {len(texts)} different answers"


def counted(statuses: Counter[str]) -> str:
    """For people: "1 miss, 99 coalesced"."""
    there = [(status, count) for status, count in statuses.items() if count]
    return ", ".join(f"{count} {status}" for status, count in sorted(there, key=_rank)) or "nothing"


def _rank(item: tuple[str, int]) -> tuple[bool, str]:
    """Those who called come first."""
    return item[0] in (*SHARED, "coalesced or hit"), item[0]
