"""Who may choose names fills neither the memory nor the table, and no sum is wrong by that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace

import pytest

from aicache.core.callinfo import CallInfo
from aicache.ledger import counts, hotspots, stats, words
from aicache.ledger.compaction import HOUR, compact
from aicache.ledger.counts import APART_FOR, MINUTE, MOST_PLACES, MOST_WAITING, Counts
from aicache.ledger.figures import AT, USD
from aicache.ledger.hotspots import MOST, Hotspots
from aicache.ledger.place import OF_ALL, OF_OWNER, OF_PLACE, OTHERS, Place, Rest
from aicache.ledger.rows import BUCKETS, HOTSPOTS
from aicache.models import Hotspot, MetricBucket
from aicache.tenants import tenant_digest
from tests.ledger.books import of_all, of_owners
from tests.ledger.buckets import bucket
from tests.ledger.world import FIGURES, World, world
from tests.management.test_cache_stats import told

HIT = CallInfo("hit", saved_usd=Decimal("0.5"), saved_tokens=30)
OLD = int(time.time()) // HOUR * HOUR - 4 * HOUR


def count(on: Counts, place: Place) -> None:
    on.ended("call", place, HIT, None, "", retried=False)


def hits(on: Counts) -> int:
    return sum(cell.figures[AT["hit"]] for cell in on.known())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=100_000.0 * HOUR)
    made.time, made.monotonic = lambda: made.now, lambda: made.now
    for module in (counts, hotspots):
        monkeypatch.setattr(module, "time", made)
    return made


class TestInMemory:
    @pytest.fixture(autouse=True)
    def _in_one_minute(self, clock: SimpleNamespace) -> None:
        """However slow the machine is."""

    def test_so_many_places_are_told_apart_in_a_minute(self) -> None:
        on = Counts()
        for number in range(5000):
            for model in ("large", "small", "other"):
                count(on, Place(f"t{number}", model, "chat"))
        assert len(on._cells) == len(on._changed) == MOST_PLACES + 1
        assert len(on._by_place) == MOST_PLACES
        (rest,) = (cell for cell in on.known() if cell.place.tenant is Rest.REST)
        assert (rest.place.model, rest.place.policy) == ("", "")
        assert hits(on) == 15_000
        assert rest.figures[AT["hit"]] == 15_000 - MOST_PLACES

    def test_those_that_are_known_are_told_apart_on(self) -> None:
        on = Counts()
        first = Place("first", "large", "chat")
        for place in (first, *(Place(f"t{number}") for number in range(2000)), first):
            count(on, place)
        assert {cell.place: cell for cell in on.known()}[first].figures[AT["hit"]] == 2

    def test_in_the_next_minute_it_begins_anew(self, clock: SimpleNamespace) -> None:
        on = Counts()
        for number in range(2000):
            count(on, Place(f"t{number}"))
        on.take()
        on.written()
        clock.now += MINUTE
        count(on, Place("late"))
        assert [cell.place for cell in on.known()] == [Place("late")]

    def test_so_many_names_of_models_are_told_apart_in_an_hour(self, clock: SimpleNamespace) -> None:
        on = Counts()
        for number in range(1000):
            count(on, Place("acme", f"made up {number}", "chat"))
        names = {cell.place.model for cell in on.known()}
        assert len(names) == words.MOST + 1
        assert "(others)" in names
        assert len(on._by_place) == words.MOST
        assert hits(on) == 1000
        count(on, Place("acme", "large", "chat"))
        assert "large" not in {cell.place.model for cell in on.known()}

        clock.now += HOUR
        count(on, Place("acme", "large", "chat"))
        assert "large" in {cell.place.model for cell in on.known()}
        assert len(on._models._known) == 1

    def test_names_that_are_made_up_keep_no_policy_out(self) -> None:
        on = Counts()
        for number in range(1000):
            count(on, Place("acme", f"made up {number}", "chat"))
        count(on, Place("acme", "made up 1", "daily"))
        assert {cell.place.policy for cell in on.known()} == {"chat", "daily"}

    def test_what_is_called_as_the_rest_is_one_with_it(self) -> None:
        """Two cells of one row would be refused in one statement."""
        on = Counts()
        count(on, Place("acme", "(others)", "chat"))
        for number in range(300):
            count(on, Place("acme", f"{number}", "chat"))
        assert len({cell.place for cell in on.known()}) == len(on.known())

    def test_what_waits_for_a_database_that_is_away_is_bounded(self, clock: SimpleNamespace) -> None:
        on, most = Counts(), 0
        for number in range(40):
            for tenant in range(900):
                count(on, Place(f"t{tenant}"))
            most = max(most, len(on._changed))
            clock.now += MINUTE
            assert number * MINUTE < APART_FOR
        assert most <= MOST_WAITING + MOST_PLACES + 1
        assert hits(on) == 36_000
        assert sum(cell.usd[USD["saved"]] for cell in on.known()) == 18_000

    def test_hot_spots_are_bounded_and_those_that_are_dear_stay(self) -> None:
        spots = Hotspots()
        for number in range(5000):
            spots.note("miss", Place("acme"), f"cheap {number}", Decimal("0.001"))
            spots.note("miss", Place("acme"), "dear", Decimal("0.01"))
            assert len(spots._known["miss"]) <= MOST
        assert len(spots._changed) <= MOST
        found = {spot.name: spot for spot in spots.take()}
        assert (found["dear"].times, found["dear"].usd) == (5000, 50)

    def test_hot_spots_that_nobody_takes_are_forgotten_after_an_hour(self, clock: SimpleNamespace) -> None:
        spots = Hotspots()
        for _ in range(10):
            for number in range(100):
                spots.note("miss", Place("acme"), f"{number}", Decimal("0.001"))
            clock.now += HOUR
        assert len(spots._changed) == 200

    def test_one_that_comes_again_after_it_was_forgotten_is_one_row(self) -> None:
        """Two of one row in a statement would be refused."""
        spots = Hotspots()
        spots.note("miss", Place("acme"), "cheap", Decimal("0.001"))
        assert len(spots.take()) == 1
        for number in range(MOST):
            spots.note("miss", Place("acme"), f"dear {number}", Decimal(1))
        spots.note("miss", Place("acme"), "cheap", Decimal("0.001"))
        spots.not_written()
        rows = [spot.row("one") for spot in spots.take()]
        assert len({row["digest"] for row in rows}) == len(rows)


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestInTheTable:
    def test_so_many_places_are_told_apart_in_an_hour(self) -> None:
        for process in ("one", "two"):
            MetricBucket.objects.bulk_create(
                bucket(f"t{number}", process=process, start=OLD, model="large", hit=number, upstream_calls=1)
                for number in range(2500)
            )
            MetricBucket.objects.bulk_create(
                bucket(f"u{process}{number}", process=process, start=OLD + MINUTE, model="small", miss=1)
                for number in range(1250)
            )
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        hours = MetricBucket.objects.filter(span=HOUR)
        assert hours.filter(total=OF_ALL).count() == 2
        for total in (OF_PLACE, OF_OWNER):
            apart = hours.filter(total=total).exclude(owner=OTHERS)
            assert apart.count() == BUCKETS.most
            assert min(apart.values_list("hit", flat=True)) == 2 * (2500 - BUCKETS.most)
        assert "(others)" in told("--tenant", "(others)")[0]
        assert sum(found.calls for found in stats.read("default").tenants.values()) == before["hit"] + before["miss"]

    def test_so_many_hot_spots_are_kept_in_an_hour(self) -> None:
        place = {"span": HOUR, "start": OLD, "owner": tenant_digest("acme"), "tenant": "acme", "kind": "miss"}
        Hotspot.objects.bulk_create(
            Hotspot(**place, process=process, digest=f"{number:032}", times=1, nano_usd=number)
            for process in ("one", "two")
            for number in range(1, 1001)
        )
        compact()
        kept = Hotspot.objects.order_by("nano_usd")
        assert kept.count() == HOTSPOTS.most
        assert kept[0].nano_usd == 2 * (1001 - HOTSPOTS.most)
        assert {spot.times for spot in kept} == {2}


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestADatabaseThatTakesNoFigures:
    @pytest.fixture
    def on(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
        monkeypatch.setattr(counts, "MOST_WAITING", 20)
        with world(monkeypatch) as made:
            yield made

    def test_fills_no_memory_and_what_is_given_up_is_lost(self, on: World) -> None:
        """It takes announcements: each minute is offered, and may be written."""
        one = on.workers[0]
        for number in range(100):
            on.count(one, Place("acme"), "hit")
            on.flush(one, breaks_at=(FIGURES, bool(number % 2)))
            on.now += MINUTE
            assert len(one.flusher.counts._changed) <= 22
        on.check()
        assert on.lost() >= 20
        on.flush(one)
        on.check()
