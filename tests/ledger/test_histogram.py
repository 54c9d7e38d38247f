"""Quantiles from counts in bins: as near as the bins are wide."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.ledger.cell import Cell
from aicache.ledger.figures import AT, HIT_TIMES, UPSTREAM_TIMES
from aicache.ledger.histogram import Histogram
from aicache.ledger.place import Place

BOUNDS = HIT_TIMES, UPSTREAM_TIMES
seconds = st.floats(0, 200, allow_subnormal=False) | st.sampled_from([*HIT_TIMES, *UPSTREAM_TIMES])


def of(times: list[float], bounds: tuple[float, ...]) -> Histogram:
    counts = [0] * (len(bounds) + 1)
    for time in times:
        counts[bisect_left(bounds, time)] += 1
    return Histogram(bounds, counts, sum(times))


def edges(time: float, bounds: tuple[float, ...]) -> tuple[float, float]:
    """Of the bin that it is in; what is above all of them counts as the last bound."""
    at = bisect_left(bounds, time)
    return ((0.0, *bounds)[at], bounds[at]) if at < len(bounds) else (bounds[-1], bounds[-1])


@pytest.mark.parametrize("bounds", BOUNDS)
@given(times=st.lists(seconds, min_size=1, max_size=60), share=st.floats(0, 1))
def test_a_quantile_lies_in_the_bin_of_the_one_that_it_would_be(
    bounds: tuple[float, ...], times: list[float], share: float
) -> None:
    found = of(times, bounds).quantile(share)
    low, high = edges(sorted(times)[max(ceil(share * len(times)), 1) - 1], bounds)
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize("bounds", BOUNDS)
@given(times=st.lists(seconds, min_size=1), shares=st.lists(st.floats(0, 1), min_size=2))
def test_quantiles_grow_with_their_share(bounds: tuple[float, ...], times: list[float], shares: list[float]) -> None:
    told = of(times, bounds)
    found = [told.quantile(share) for share in sorted(shares)]
    assert found == sorted(found, key=lambda one: -1 if one is None else one)


def test_of_nothing_there_is_none() -> None:
    assert Histogram(HIT_TIMES, [0] * 11, 0.0).quantile(0.5) is None


def test_what_is_above_all_bounds_counts_as_the_last_of_them() -> None:
    assert of([500.0, 900.0], UPSTREAM_TIMES).quantile(0.5) == 120.0


def test_within_a_bin_they_are_spread_evenly() -> None:
    told = of([3.0] * 4, UPSTREAM_TIMES)  # between 2 and 4
    assert [told.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [2.5, 3.0, 3.5, 4.0]


def test_both_are_read_from_the_figures() -> None:
    cell = Cell(0, Place("acme"))
    cell.answered(3.0)
    cell.answered(0.1)
    numbers = {name: cell.figures[at] for name, at in AT.items()}
    upstream, hits = Histogram.of_upstream(numbers), Histogram.of_hits(numbers)
    assert (upstream.number, upstream.total, hits.number, hits.total) == (2, 3.1, 0, 0.0)
    assert upstream.quantile(1.0) == 4.0
