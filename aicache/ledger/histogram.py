"""How long things took, from counts in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from aicache.ledger.figures import HIT_BINS, HIT_TIMES, UPSTREAM_BINS, UPSTREAM_TIMES


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts``: one for each bin, up to each of ``bounds`` (seconds), and a last one above. ``total``: seconds."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float

    @classmethod
    def of_hits(cls, numbers: Mapping[str, int]) -> Self:
        return cls(HIT_TIMES, [numbers[name] for name in HIT_BINS], numbers["hit_us"] / 1_000_000)

    @classmethod
    def of_upstream(cls, numbers: Mapping[str, int]) -> Self:
        return cls(UPSTREAM_TIMES, [numbers[name] for name in UPSTREAM_BINS], numbers["upstream_ms"] / 1000)

    @property
    def number(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Seconds that no more than this share took, evenly spread in each bin; None where nothing was timed.

        What lies above the last bound counts as that.
        """
        if self.number <= 0:
            return None
        wanted = share * self.number
        for at, reached in enumerate(accumulate(self.counts)):
            if reached < wanted or not self.counts[at]:
                continue
            if at == len(self.bounds):
                break
            low = self.bounds[at - 1] if at else 0.0
            return low + (self.bounds[at] - low) * (wanted - (reached - self.counts[at])) / self.counts[at]
        return self.bounds[-1]
