"""What has been rolled up is not written again: each way in which it might be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models.functions import Now

from aicache.core.callinfo import CallInfo
from aicache.core.records import Answer, Before, Called, Served
from aicache.ledger import rows
from aicache.ledger.compaction import GONE_AFTER, HOUR
from aicache.ledger.counts import APART_FOR, MINUTE, RETRIED_FOR
from aicache.ledger.place import Place
from aicache.models import CountingProcess, Hotspot, MetricBucket
from tests.ledger.world import FIGURES, Worker, World, world

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("flusher")]

ACME, GLOBEX = Place("acme", "large", "chat"), Place("globex", "large", "chat")
# The first statement that writes figures fails; and was done all the same, or not.
WRITTEN, LOST = (FIGURES, True), (FIGURES, False)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(monkeypatch) as made:
        made.now = made.now // HOUR * HOUR + 50 * MINUTE
        yield made


@pytest.fixture
def one(on: World) -> Worker:
    return on.workers[0]


def minutes(worker: Worker) -> int:
    """How many of them are not rolled up."""
    return MetricBucket.objects.filter(process=worker.flusher.process.id).count()


def whole(on: World) -> dict[str, int]:
    """When all that live have written."""
    for worker in on.workers:
        on.flush(worker)
    on.check()
    found = MetricBucket.objects.filter(total=0).values("hit", "miss", "error", "upstream_calls")
    return {name: sum(row[name] for row in found) for name in ("hit", "miss", "error", "upstream_calls")}


def test_a_failure_is_taken_back_in_its_minute_as_long_as_that_is_left(on: World, one: Worker) -> None:
    on.count(one, ACME, "fail")
    on.flush(one)
    on.wait(RETRIED_FOR - MINUTE)  # the hour has ended
    on.count(on.workers[1], GLOBEX, "hit")
    on.flush(one)
    on.compact()
    assert minutes(one) == 1
    on.count(one, ACME, "retry")
    assert whole(on) == {"hit": 1, "miss": 1, "error": 0, "upstream_calls": 0}
    assert minutes(one) == 2


def test_a_failure_that_was_rolled_up_is_no_earlier_attempt_any_more(on: World, one: Worker) -> None:
    on.count(one, ACME, "fail")
    on.flush(one)
    for _ in range(4):
        on.wait(RETRIED_FOR / 2)
        on.count(one, GLOBEX, "hit")
        on.flush(one)
        on.compact()
    assert not MetricBucket.objects.exclude(process="").filter(error=1).exists()
    on.count(one, ACME, "retry")
    on.compact()
    assert whole(on) == {"hit": 4, "miss": 1, "error": 1, "upstream_calls": 0}


@pytest.mark.parametrize("seconds", [RETRIED_FOR - MINUTE, RETRIED_FOR + 2 * MINUTE, 3 * HOUR])
def test_a_request_that_turns_out_not_to_have_left_changes_no_figure_that_is_settled(
    seconds: int, on: World, one: Worker
) -> None:
    on.count(one, ACME, "send")
    on.flush(one)
    on.wait(seconds)
    on.count(one, GLOBEX, "hit")
    on.flush(one)
    on.compact()
    on.count(one, ACME, "not sent")
    on.flush(one)
    on.compact()
    assert whole(on) == {"hit": 1, "miss": 0, "error": 0, "upstream_calls": 0}


@pytest.mark.parametrize("breaks_at", [WRITTEN, LOST])
@pytest.mark.parametrize("hours", [1, 5])
def test_what_was_offered_to_a_database_that_was_away_is_left_until_it_is_known_to_be_written(
    hours: int, breaks_at: tuple[int, bool], on: World, one: Worker
) -> None:
    """It takes announcements, and no figures: others see that it lives."""
    on.count(one, ACME, "hit")
    for _ in range(hours * 4):
        on.flush(one, breaks_at=breaks_at)
        on.wait(HOUR / 4)
        on.compact()
    assert minutes(one) == (breaks_at == WRITTEN)
    on.count(one, ACME, "hit")
    on.flush(one)
    on.compact()
    assert whole(on)["hit"] == 2


@pytest.mark.parametrize("breaks_at", [WRITTEN, LOST])
def test_what_was_offered_stays_in_its_minute_and_what_was_not_comes_along(
    breaks_at: tuple[int, bool], on: World, one: Worker
) -> None:
    on.count(one, ACME, "hit")
    on.flush(one, breaks_at=breaks_at)
    on.wait(MINUTE)
    on.count(one, ACME, "hit")
    offered, other = one.flusher.counts._changed
    on.wait(APART_FOR + MINUTE)
    on.count(one, ACME, "miss")
    assert [cell.minute for cell in one.flusher.counts._changed] == [offered.minute, other.minute + APART_FOR + MINUTE]
    assert whole(on) == {"hit": 2, "miss": 1, "error": 0, "upstream_calls": 0}


class TestWhoIsTakenToBeGone:
    """It stood still for longer than anybody believes in it, wherever it was at."""

    def gone(self, on: World, worker: Worker) -> str:
        before = worker.flusher.process.id
        on.wait(GONE_AFTER.total_seconds() + 3 * HOUR)
        on.compact()
        assert not minutes(worker)
        assert CountingProcess.objects.get(id=before).unsettled == rows.GONE
        return before

    def test_goes_on_as_another(self, on: World, one: Worker) -> None:
        on.count(one, ACME, "hit")
        on.flush(one)
        before = self.gone(on, one)
        on.count(one, ACME, "hit")
        on.flush(one)
        assert one.flusher.process.id != before
        assert CountingProcess.objects.count() == 2
        assert whole(on)["hit"] == 2
        assert on.lost() <= 16  # what it had announced beyond that, and not come to

    def test_has_nothing_lost_where_it_had_written_all(self, on: World, one: Worker) -> None:
        on.count(one, ACME, "hit")
        on.flush(one, closes=True)
        self.gone(on, one)
        on.count(one, ACME, "hit")
        assert whole(on)["hit"] == 2
        assert on.lost() == 0

    @pytest.mark.parametrize("breaks_at", [WRITTEN, LOST])
    def test_has_lost_what_nobody_knows_of_and_no_more(
        self, breaks_at: tuple[int, bool], on: World, one: Worker
    ) -> None:
        on.count(one, ACME, "hit")
        on.flush(one, breaks_at=breaks_at)
        on.count(one, ACME, "miss")  # since
        self.gone(on, one)
        assert whole(on) == {"hit": int(breaks_at == WRITTEN), "miss": 1, "error": 0, "upstream_calls": 0}
        assert on.lost() >= 1

    def test_takes_back_what_it_knows_to_be_nothing_where_it_is_now(self, on: World, one: Worker) -> None:
        on.count(one, ACME, "send")
        on.count(one, GLOBEX, "fail")
        on.flush(one)
        on.wait(2 * MINUTE)
        CountingProcess.objects.update(unsettled=rows.GONE)  # by whoever's clock is wrong
        on.count(one, ACME, "hit")
        on.flush(one)
        on.count(one, ACME, "not sent")
        on.count(one, ACME, "retry")
        assert whole(on) == {"hit": 1, "miss": 1, "error": 0, "upstream_calls": 0}

    def test_asks_before_each_statement(self, on: World, one: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """It stands still in the middle of its writing."""
        monkeypatch.setattr(rows, "AT_ONCE", 1)
        on.count(one, ACME, "hit")
        on.flush(one)
        on.count(one, ACME, "hit")
        on.count(one, GLOBEX, "hit")
        row = rows.row

        def stands_still(*given: object) -> object:
            monkeypatch.setattr(rows, "row", row)
            self.gone(on, one)
            return row(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(rows, "row", stands_still)
        with pytest.raises(rows.Overdue):
            on.flush(one)
        one.flusher._failed(rows.Overdue("late"))
        found = whole(on)
        assert found["hit"] == 1  # what it was about to write is lost, as far as anybody knows
        assert on.lost() >= 2


def test_hot_spots_that_wait_to_be_written_are_not_settled(on: World, one: Worker) -> None:
    counts = one.flusher.counts
    called = Called(None, Answer(b"", usd=Decimal("0.5")))

    def miss() -> None:
        on.truth["miss"] += 1
        counts.ended("1", ACME, CallInfo("miss"), Served("miss", own=called, before=Before("tag")), "q", retried=False)

    miss()
    on.flush(one, closes=True)
    assert Hotspot.objects.count() == 2
    miss()
    hour = int(on.now) // HOUR * HOUR
    assert counts.unsettled() == hour
    spots = counts.take_hotspots()
    on.wait(HOUR)
    assert counts.unsettled() == hour
    counts.hotspots_written(is_done=False)
    on.flush(one)
    on.wait(2 * HOUR)
    for worker in on.workers:
        CountingProcess.objects.filter(id=worker.flusher.process.id).update(seen_at=Now() - timedelta(seconds=1))
    on.compact()
    assert {spot.times for spot in Hotspot.objects.all()} == {2}
    assert len(spots) == 2
