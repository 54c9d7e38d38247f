from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.core.lag import NO_LAG, Lag

CONSTANT = pytest.mark.parametrize("lag", [0.1, 0.5, 1, 2, 5, 8, 9.5])
# Gaps are seconds; most are short, and some are of who came by chance.
HISTORIES = st.lists(st.tuples(st.floats(0, 12) | st.floats(0, 1e6) | st.just(0.0), st.booleans()), max_size=40)


@dataclass
class Run:
    """Writes, each followed at once by one who reads, or else writes again."""

    lag: Lag = NO_LAG
    redundant: int = 0
    waits: list[float] = field(default_factory=list)
    settles: list[float] = field(default_factory=list)

    @property
    def waited(self) -> float:
        return sum(self.waits)

    def go(self, writes: int, visible_after: Callable[[], float]) -> Run:
        for _ in range(writes):
            gap = 0.0 if self.lag.probes else self.lag.settle
            read = gap >= visible_after()
            self.redundant += not read
            self.waits.append(gap)
            self.lag = self.lag.after(gap, read=read)
            self.settles.append(self.lag.settle)
        return self

    @property
    def waiting(self) -> list[int]:
        """How many waited, one after another, each time that any did."""
        runs = [0]
        for gap in self.waits:
            runs[-1:] = [runs[-1] + 1] if gap else [runs[-1], 0]
        return [run for run in runs if run]


def constantly(lag: float, writes: int) -> Run:
    return Run().go(writes, lambda: lag)


def as_reported(seed: int) -> Callable[[], float]:
    dice = random.Random(seed)
    return lambda: 0.0 if dice.random() < 0.6 else dice.uniform(0.3, 1.9)


def learned(history: list[tuple[float, bool]]) -> Lag:
    lag = NO_LAG
    for gap, read in history:
        lag = lag.after(gap, read=read)
    return lag


class TestALagAsReported:
    def test_costs_few_second_writes_and_little_waiting(self) -> None:
        runs = [Run().go(12, as_reported(seed)) for seed in range(2000)]
        good = sum(run.redundant <= 3 and run.waited <= 18 for run in runs)

        assert good >= 0.97 * len(runs)

    def test_is_met_by_waiting_and_never_by_more_than_was_reported_to_cure_it(self) -> None:
        runs = [Run().go(12, as_reported(seed)) for seed in range(200)]

        assert any(run.waited for run in runs)
        assert max(gap for run in runs for gap in run.waits) <= 2.2

    def test_is_still_mostly_met_after_many_writes(self) -> None:
        """As reported 0.4 of the second calls write again."""
        runs = [Run().go(600, as_reported(seed)) for seed in range(20)]

        assert sum(run.redundant for run in runs) <= 0.15 * 20 * 600


class TestWithoutALag:
    def test_nobody_ever_waits(self) -> None:
        run = constantly(0.0, 500)

        assert (run.redundant, run.waited, run.lag) == (0, 0.0, NO_LAG)

    @pytest.mark.parametrize("gap", [0.0, 0.5, 30.0, 1e6])
    def test_a_read_teaches_nothing(self, gap: float) -> None:
        assert NO_LAG.after(gap, read=True) == NO_LAG

    def test_nothing_is_known_and_nothing_probed(self) -> None:
        assert not NO_LAG.is_known
        assert not NO_LAG.probes
        assert NO_LAG.chance == 0.0


class TestAConstantLag:
    @CONSTANT
    def test_is_waited_for_after_a_few_second_writes(self, lag: float) -> None:
        run = constantly(lag, 12)

        assert lag <= run.lag.settle <= 10.0
        assert run.redundant <= 7
        assert constantly(lag, 6).lag.settle > lag

    def test_of_five_seconds_is_waited_for_longer_than_that(self) -> None:
        assert constantly(5.0, 6).lag.settle > 5.0
        assert all(settle > 5.0 for settle in constantly(5.0, 50).settles[6:])

    @CONSTANT
    def test_is_waited_for_ever_less_until_it_is_no_more_than_that(self, lag: float) -> None:
        settles = constantly(lag, 600).settles[400:]

        assert min(settles) <= lag * 1.05 + 0.01
        assert max(settles) <= max(lag * 1.12, 0.12)

    @CONSTANT
    def test_costs_few_second_writes_for_ever(self, lag: float) -> None:
        run = Run().go(400, lambda: lag)
        late = Run(run.lag).go(400, lambda: lag)

        assert late.redundant <= 0.25 * 400
        assert late.waited > 0

    @CONSTANT
    def test_is_probed_ever_more_rarely(self, lag: float) -> None:
        waits = constantly(lag, 400).waits

        assert sum(gap == 0.0 for gap in waits[:20]) >= 3
        assert 1 <= sum(gap == 0.0 for gap in waits[350:]) <= 3

    def test_that_grows_is_followed(self) -> None:
        run = constantly(0.5, 50)

        assert Run(run.lag).go(10, lambda: 4.0).lag.settle > 4.0


class TestALagThatIsGone:
    @CONSTANT
    def test_is_waited_for_no_longer_after_a_bounded_number_of_writes(self, lag: float) -> None:
        for writes in (2, 12, 60, 400):
            run = Run(constantly(lag, writes).lag).go(80, lambda: 0.0)

            assert run.redundant == 0
            assert run.settles[-1] == 0.0

    def test_is_found_out_soon_by_who_has_just_met_it(self) -> None:
        assert Run(constantly(1.0, 2).lag).go(12, lambda: 0.0).lag.settle == 0.0

    def test_is_not_taken_for_gone_by_one_lucky_read(self) -> None:
        lag = Lag(settle=2.0, waits=5, tries=1.0, fails=1.0).after(0.0, read=True)

        assert lag.settle == 2.0
        assert lag.after(0.0, read=False).good == 0

    def test_is_forgotten_altogether(self) -> None:
        run = Run(constantly(5.0, 400).lag).go(150, lambda: 0.0)

        assert run.lag == NO_LAG

    @settings(max_examples=50, deadline=None)
    @given(HISTORIES)
    def test_is_gone_whatever_was_learned_before(self, history: list[tuple[float, bool]]) -> None:
        run = Run(learned(history)).go(150, lambda: 0.0)

        assert run.settles[79] == 0.0
        assert run.lag == NO_LAG

    def test_that_comes_back_is_probed_as_often_as_a_new_one(self) -> None:
        gone = Run(constantly(5.0, 400).lag).go(80, lambda: 0.0).lag
        new, again = (Run(lag).go(20, lambda: 5.0).waits for lag in (NO_LAG, gone))

        assert gone.settle == 0.0
        assert again.count(0.0) == new.count(0.0)

    @settings(max_examples=50, deadline=None)
    @given(HISTORIES, st.sampled_from([0.5, 2.0, 5.0, 8.0]))
    def test_that_comes_back_is_met_again(self, history: list[tuple[float, bool]], lag: float) -> None:
        """At the latest once the numbness of who has waited in vain is over."""
        run = Run(learned(history)).go(40, lambda: lag)

        assert run.lag.settle > 0.98 * lag


class TestWaitingThatNeverHelps:
    @pytest.mark.parametrize("lag", [10.5, 60.0, float("inf")])
    def test_is_given_up(self, lag: float) -> None:
        run = constantly(lag, 12)

        assert run.lag.settle == 0.0
        assert run.waiting == [5]
        assert run.waited < 30

    def test_is_tried_again_much_later_and_given_up_again(self) -> None:
        run = constantly(float("inf"), 300)

        assert len(run.waiting) >= 10
        assert set(run.waiting[:-1]) == {5}
        assert sum(run.waiting) <= 0.25 * 300

    def test_is_not_what_comes_of_vain_waits_with_reads_in_between(self) -> None:
        lag = constantly(1.0, 2).lag
        for _ in range(30):
            lag = lag.after(lag.settle, read=False)
            lag = lag.after(lag.settle, read=True)

            assert lag.settle > 0

    @settings(max_examples=50, deadline=None)
    @given(HISTORIES)
    def test_is_given_up_whatever_was_learned_before(self, history: list[tuple[float, bool]]) -> None:
        run = Run(learned(history)).go(120, lambda: float("inf"))

        assert max(run.waiting, default=0) <= 5
        assert sum(run.waiting) <= 0.35 * 120


class TestWhatIsLearned:
    KNOWN = Lag(settle=2.0, waits=1, tries=1.0, fails=1.0)

    @pytest.mark.parametrize(("gap", "read"), [(3.01, True), (60.0, True), (11.01, False), (60.0, False)])
    def test_is_nothing_of_who_came_much_later_by_itself(self, gap: float, read: bool) -> None:
        assert self.KNOWN.after(gap, read=read) == self.KNOWN

    def test_is_nothing_of_the_first_wait_from_who_waited_half_of_it(self) -> None:
        for read in (True, False):
            lag = self.KNOWN.after(1.2, read=read)

            assert (lag.settle, lag.waits, lag.good) == (2.0, 1, 0)

    def test_is_that_less_may_do_where_it_was_read_and_more_is_needed_where_not(self) -> None:
        assert 1.9 < self.KNOWN.after(2.0, read=True).settle < 2.0 < self.KNOWN.after(2.0, read=False).settle

    def test_is_that_much_more_is_needed_where_it_was_not_read_twice_in_a_row(self) -> None:
        once = self.KNOWN.after(2.0, read=False)

        assert once.after(once.settle, read=False).settle >= 1.9 * once.settle

    def test_is_how_likely_who_does_not_wait_writes_again(self) -> None:
        assert constantly(5.0, 100).lag.chance == 1.0
        chances = [Run().go(300, as_reported(seed)).lag.chance for seed in range(100)]

        assert 0.25 < sum(chances) / len(chances) < 0.55

    def test_counts_late_tries_more_than_early_ones(self) -> None:
        lag = Lag(settle=2.0, tries=10.0, fails=0.0)

        assert 0.09 < lag.after(0.0, read=False).chance < 0.11

    @settings(max_examples=100, deadline=None)
    @given(HISTORIES)
    def test_stays_within_bounds_whatever_happens(self, history: list[tuple[float, bool]]) -> None:
        lag = learned(history)

        assert 0.0 <= lag.settle <= 10.0
        assert 0.0 <= lag.chance <= 1.0
        assert lag.tries <= 10.0
        assert not (lag.settle and not lag.is_known)
