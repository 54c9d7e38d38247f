"""What is remembered of a question beside its answer, to tell a later miss why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aicache.core.records import NO_STAMPS, Ask, Before, Stamps

DIED: Final = ("invalidated", "source_changed")
"""Reasons for which an answer is none any more that would have been served."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What was last stored."""

    key: str
    dies_at: float
    stamps: Stamps = NO_STAMPS
    sources: tuple[tuple[str, str], ...] = ()

    def reason(self, ask: Ask, now: float, stamps: Sequence[str | None] = ()) -> str:
        """Why ``ask`` found no entry. ``stamps``: as they are now."""
        if self.key != ask.key:
            then = dict(self.sources)
            moved = next((label for label, version in ask.sources if then.get(label, version) != version), None)
            return f"source_changed:{moved}" if moved else "unknown"
        if (tag := self.stamps.changed(ask.tags, stamps)) is not None:
            return f"invalidated:{tag}"
        return "expired" if self.dies_at <= now else "evicted"


def missed(last: Lineage | None, ask: Ask, now: float, stamps: Sequence[str | None]) -> tuple[str, Before | None]:
    """→ why, and the answer that stood there before."""
    if last is None:
        return "new", None
    reason = last.reason(ask, now, stamps)
    return reason, before(reason, last.dies_at, now)


def before(reason: str, dies_at: float, now: float) -> Before | None:
    """None where what stood there was an answer to another question: who asks with other tags would not have had it."""
    word, _, detail = reason.partition(":")
    if word == "unknown":
        return None
    return Before(detail if word in DIED else "", max(now - dies_at, 0.0))
