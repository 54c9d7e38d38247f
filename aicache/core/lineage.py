"""What is remembered of a question beside its answer, to tell a later miss why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aicache.core.records import NO_STAMPS, Ask, Stamps


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
