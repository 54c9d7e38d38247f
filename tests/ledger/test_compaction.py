"""What is long past is kept coarser: no figure changes by it."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.test import override_settings

from aicache.ledger import compaction, rows, stats
from aicache.ledger.compaction import DAY, EVER, FORGOTTEN_AFTER, GONE_AFTER, HOUR, compact
from aicache.ledger.counts import MINUTE, RETRIED_FOR
from aicache.ledger.figures import PROMPTS
from aicache.ledger.place import ALL, OF_ALL, OF_OWNER, OF_PLACE, OTHERS
from aicache.models import CountingProcess, Hotspot, MetricBucket
from aicache.tenants import tenant_digest
from tests.freshness.tables import in_a_thread
from tests.ledger.books import of_all, of_owners, told
from tests.ledger.buckets import bucket, counted
from tests.ledger.conftest import ALIAS
from tests.places import ON

NOW = int(time.time())
OLD = NOW // HOUR * HOUR - 4 * HOUR
YOUNG = NOW // HOUR * HOUR
TENANTS = ("acme", "globex", "initech")


def fill(using: str = "default") -> None:
    """Of three tenants and two processes: two hours that are old, minute by minute, and one that is not. Of each, the
    calls and, of two models, what they did at the provider's prompt cache."""
    places = [
        (at, tenant, {"process": process, "start": minute})
        for at, minute in enumerate((*range(OLD, OLD + 2 * HOUR, 10 * MINUTE), YOUNG))
        for tenant in TENANTS
        for process in ("one", "two")
    ]
    found = [bucket(tenant, **place, hit=3, error=-1, miss=at) for at, tenant, place in places]
    found += [
        bucket(tenant, **place, model=model, **{name: number + at for number, name in enumerate(PROMPTS, first)})
        for at, tenant, place in places
        for model, first in (("large", 100), ("small", 0))
    ]
    MetricBucket.objects.using(using).bulk_create(found)


def working(
    process: str, *, unsettled: int, ago: timedelta = timedelta(0), using: str = "default", **more: int
) -> None:
    fields = {"host": "far", "pid": 1, "flushed": 5, "announced": 5, **more}
    CountingProcess.objects.using(using).create(id=process, unsettled=unsettled, seen_at=Now() - ago, **fields)


def spans(**chosen: Any) -> dict[int, int]:
    """How many rows there are of each."""
    found = MetricBucket.objects.filter(**chosen).values_list("span", flat=True)
    return {span: [*found].count(span) for span in sorted(set(found))}


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestMinutes:
    @pytest.mark.parametrize("batch", [1, 7, 500])
    def test_become_hours_and_no_figure_changes(self, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction, "BATCH", batch)
        fill()
        before = told()

        assert compact() == 2 * 6 * 3 * 2 * (1 + 2)
        assert told() == before
        of_tenants = MetricBucket.objects.filter(span=HOUR, total=OF_PLACE).order_by("start", "tenant", "model")
        assert list(of_tenants.filter(model="").values_list("start", "tenant", "hit")) == [
            (hour, name, 36) for hour in (OLD, OLD + HOUR) for name in TENANTS
        ]
        assert list(of_tenants.exclude(model="").values_list("start", "tenant", "model", "reads")) == [
            (hour, name, model, 2 * sum(first + at for at in minutes))
            for hour, minutes in ((OLD, range(6)), (OLD + HOUR, range(6, 12)))
            for name in TENANTS
            for model, first in (("large", 100), ("small", 0))
        ]
        assert spans(process="") == {HOUR: 2 * (3 * (3 + 1) + 3)}
        assert MetricBucket.objects.exclude(process="").count() == 3 * 2 * 3
        assert compact() == 0

    def test_become_hours_of_all_owners_too(self) -> None:
        fill()
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        total = MetricBucket.objects.filter(owner=ALL, start=OLD, model="").get()
        assert (total.hit, total.error, total.tenant, total.everybody) == (108, -36, "", False)

    def test_that_come_later_are_added_to_their_hour(self) -> None:
        fill()
        compact()
        counted(process="three", start=OLD + 60, hit=5)
        assert compact() == 1
        assert MetricBucket.objects.get(process="", start=OLD, tenant="acme", model="", total=OF_PLACE).hit == 41
        assert MetricBucket.objects.get(process="", start=OLD, owner=ALL, model="").hit == 113

    def test_that_come_later_are_added_to_the_hour_of_their_model(self) -> None:
        fill()
        compact()
        counted(process="three", start=OLD + 60, model="small", reads=5, missed_other=1)
        counted(process="three", start=OLD + 60, model="new", gate_nano_usd=-7)
        before = told()

        assert compact() == 2
        assert told() == before
        hours = MetricBucket.objects.filter(process="", start=OLD, tenant="acme", total=OF_PLACE)
        reads = dict(hours.exclude(model="").values_list("model", "reads"))
        assert reads == {"large": 2 * sum(range(100, 106)), "small": 2 * sum(range(6)) + 5, "new": 0}
        assert hours.get(model="new").gate_nano_usd == -7

    def test_stay_by_policy(self) -> None:
        for policy in ("chat", "daily"):
            for process in ("one", "two"):
                counted(process=process, start=OLD, policy=policy, hit=1)
        compact()
        assert dict(MetricBucket.objects.filter(owner=ALL).values_list("policy", "hit")) == {"chat": 2, "daily": 2}

    def test_of_this_hour_and_the_one_before_stay_what_they_are(self) -> None:
        """Whole hours at a time: no row of an hour comes after its sum was first made."""
        for start in (YOUNG, YOUNG - MINUTE, YOUNG - HOUR):
            counted(start=start, hit=1)
        compact()
        left = set(MetricBucket.objects.filter(span=MINUTE).values_list("start", flat=True))
        now = time.time()
        assert left == {
            start for start in (YOUNG, YOUNG - MINUTE, YOUNG - HOUR) if start >= (now - HOUR) // HOUR * HOUR
        }
        assert {YOUNG, YOUNG - MINUTE} <= left

    @pytest.mark.parametrize("only", [None, MetricBucket, Hotspot])
    def test_are_left_to_another_who_is_at_it(self, only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        if only is not Hotspot:
            fill()
        if only is not MetricBucket:
            spots()
        before, summed = (told(), hot()), compaction._summed

        def meanwhile(*given: Any) -> Any:
            monkeypatch.setattr(compaction, "_summed", summed)
            compact()
            return summed(*given)

        monkeypatch.setattr(compaction, "_summed", meanwhile)
        compact()
        assert (told(), hot()) == before
        assert of_all() == of_owners()
        compact()
        assert (told(), hot()) == before
        assert not MetricBucket.objects.filter(start__lt=YOUNG - HOUR).exclude(process="").exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestUnsettled:
    """Of a process at work nothing is rolled up that it may still change."""

    @pytest.mark.parametrize(
        ("unsettled", "is_left"), [(OLD, True), (OLD + 59, True), (OLD + 60, False), (YOUNG, False)]
    )
    def test_a_minute_is_left_that_its_process_may_change(self, unsettled: int, is_left: bool) -> None:
        working("one", unsettled=unsettled)
        counted(start=OLD, hit=1)
        counted(start=OLD, process="two", hit=1)
        compact()
        assert MetricBucket.objects.filter(process="one").exists() is is_left
        assert not MetricBucket.objects.filter(process="two").exists()

    def test_a_process_that_was_not_seen_for_long_is_told_that_it_is_gone(self) -> None:
        working("one", unsettled=OLD, ago=GONE_AFTER + MINUTE_, announced=9)
        working("two", unsettled=OLD, ago=GONE_AFTER - MINUTE_)
        for process in ("one", "two"):
            counted(start=OLD, process=process, hit=1)
        compact()
        assert dict(CountingProcess.objects.values_list("id", "unsettled")) == {"one": rows.GONE, "two": OLD}
        assert list(MetricBucket.objects.exclude(process="").values_list("process", flat=True)) == ["two"]
        assert stats.read("default").lost == 4

    def test_a_process_that_comes_back_in_that_moment_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It has said that it is there before anything was rolled up, and not since."""
        working("one", unsettled=OLD, ago=GONE_AFTER + MINUTE_)
        counted(start=OLD, hit=1)
        take_leave = compaction._take_leave

        def comes_back(using: str) -> None:
            CountingProcess.objects.update(seen_at=Now())
            take_leave(using)

        monkeypatch.setattr(compaction, "_take_leave", comes_back)
        compact()
        assert MetricBucket.objects.filter(process="one").exists()

    def test_processes_of_long_ago_are_forgotten_but_for_what_they_lost(self) -> None:
        long_ago = FORGOTTEN_AFTER + timedelta(hours=1)
        working("old", unsettled=OLD, ago=long_ago)
        working("lost", unsettled=OLD, ago=long_ago, announced=9)
        working("young", unsettled=OLD)
        assert compact() == 1
        assert set(CountingProcess.objects.values_list("id", flat=True)) == {"lost", "young"}
        assert stats.read("default").lost == 4

    def test_figures_change_for_half_an_hour_at_most(self) -> None:
        assert RETRIED_FOR <= compaction.MINUTES_KEPT


MINUTE_ = timedelta(minutes=1)


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestHoursAndDays:
    def test_hours_become_days_and_those_of_all_owners_later(self) -> None:
        for ago in (1, 3, 16):
            start = (NOW // DAY - ago) * DAY + 5 * HOUR
            for at, owner in enumerate((tenant_digest("acme"), tenant_digest("globex"), ALL)):
                for hour in (start, start + HOUR):
                    for total in (OF_ALL,) if owner == ALL else (OF_PLACE, OF_OWNER):
                        model = "" if total == OF_OWNER else "m"
                        hits = {"hit": (1, 2, 3)[at], "total": total}
                        counted("", process="", span=HOUR, start=hour, owner=owner, model=model, **hits)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        assert spans(owner=ALL) == {HOUR: 4, DAY: 1}
        assert spans(tenant="", owner=tenant_digest("acme"), total=OF_PLACE) == {HOUR: 2, DAY: 2}
        globex = {"owner": tenant_digest("globex"), "total": OF_PLACE}
        day = MetricBucket.objects.get(span=DAY, start=(NOW // DAY - 3) * DAY, **globex)
        assert (day.hit, day.model, day.process) == (4, "m", "")

    @override_settings(AICACHE={"METRICS_DAYS": 30})
    def test_days_become_one_sum_of_nobody(self) -> None:
        for ago in (29, 31, 40, 50):
            start = (NOW // DAY - ago) * DAY
            for at, (tenant, owner) in enumerate((("acme", None), ("globex", None), ("", ALL))):
                whose = {"total": OF_PLACE} if owner is None else {"owner": owner, "total": OF_ALL}
                for fields in (whose, *([] if owner else [{"total": OF_OWNER, "model": "", "policy": ""}])):
                    named = {"model": "m", "policy": "p", **fields}
                    counted(tenant, process="", span=DAY, start=start, hit=(1, 2, 3)[at], **named)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        ever = MetricBucket.objects.filter(span=EVER).order_by("owner", "total")
        assert list(ever.values_list("start", "total", "owner", "tenant", "model", "policy", "hit")) == [
            (0, OF_ALL, ALL, "", "m", "", 9),
            (0, OF_PLACE, OTHERS, "", "", "", 9),
            (0, OF_OWNER, OTHERS, "", "", "", 9),
        ]
        assert {name: found["hit"] for name, found in stats.read("default").tenants.items()} == {
            "(others)": 9,
            "acme": 1,
            "globex": 2,
        }
        assert compact() == 0

    @override_settings(AICACHE={"METRICS_DAYS": 1})
    def test_minutes_of_long_ago_come_to_the_sum_at_once(self) -> None:
        for at, tenant in enumerate(TENANTS):
            counted(tenant, process="one", start=NOW // MINUTE * MINUTE - 100 * DAY, hit=at + 1)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before == {"hit": 6}
        assert spans() == {EVER: 3}

    def test_what_came_later_is_added_to_the_sum(self) -> None:
        for _ in range(2):
            counted(process="one", start=60, hit=1)
            compact()
        assert spans() == {EVER: 3}
        assert of_all() == of_owners() == {"hit": 2}


def spots(**fields: Any) -> None:
    """Of one hour, noted by two processes."""
    for process in ("one", "two"):
        place = {"span": HOUR, "start": OLD, "owner": tenant_digest("acme"), "tenant": "acme"}
        known = {"kind": "miss", "digest": "d" * 32, "label": "large", "key": "k", "times": 2, "nano_usd": 5}
        Hotspot.objects.create(**{**place, **known, "process": process, **fields})


def hot() -> dict[str, tuple[int, int]]:
    """By kind and digest."""
    found: dict[str, tuple[int, int]] = {}
    for row in Hotspot.objects.values():
        name = f"{row['kind']} {row['digest'][:1]}"
        times, usd = found.get(name, (0, 0))
        found[name] = times + row["times"], usd + row["nano_usd"]
    return found


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestHotSpots:
    def test_of_several_processes_become_one(self) -> None:
        spots()
        spots(kind="tag")
        assert compact() == 4
        assert hot() == {"miss d": (4, 10), "tag d": (4, 10)}
        found = Hotspot.objects.values("process", "span", "start", "label", "key", "tenant")
        assert [*found] == 2 * [
            {"process": "", "span": HOUR, "start": OLD, "label": "large", "key": "k", "tenant": "acme"}
        ]

    def test_are_left_while_their_process_may_change_them(self) -> None:
        working("one", unsettled=OLD + HOUR - MINUTE)
        spots()
        compact()
        assert set(Hotspot.objects.values_list("process", flat=True)) == {"one", ""}
        CountingProcess.objects.update(unsettled=OLD + HOUR)
        compact()
        assert Hotspot.objects.get().times == 4

    def test_become_days_and_are_deleted_at_last(self) -> None:
        spots(start=(NOW // DAY - 5) * DAY + HOUR)
        compact()
        found = Hotspot.objects.get()
        assert (found.span, found.start, found.times) == (DAY, (NOW // DAY - 5) * DAY, 4)
        with override_settings(AICACHE={"METRICS_DAYS": 4}):
            compact()
        assert not Hotspot.objects.exists()

    def test_are_kept_so_many_in_an_hour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction.rows, "HOTSPOTS", few(compaction.rows.HOTSPOTS, 3))
        monkeypatch.setattr(compaction.rows, "TABLES", (compaction.rows.BUCKETS, compaction.rows.HOTSPOTS))
        for number in range(10):
            spots(digest=f"{number}" * 32, nano_usd=number)
        compact()
        assert hot() == {f"miss {number}": (4, 2 * number) for number in (7, 8, 9)}


def few(table: Any, most: int) -> Any:
    from dataclasses import replace

    return replace(table, most=most)


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestTooMany:
    """What is one of too many in an hour or a day is not told apart any more."""

    @pytest.fixture(autouse=True)
    def three(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "BUCKETS", few(rows.BUCKETS, 3))
        monkeypatch.setattr(rows, "TABLES", (rows.BUCKETS, rows.HOTSPOTS))
        monkeypatch.setattr(compaction, "BATCH", 4)

    def test_tenants_are_counted_together(self) -> None:
        for number in range(10):
            counted(f"t{number}", start=OLD, model="m", hit=number, unpriced=1)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        found = stats.read("default").tenants
        assert {name: figures["hit"] for name, figures in found.items()} == {"t7": 7, "t8": 8, "t9": 9, "(others)": 21}
        assert spans(owner=ALL) == {HOUR: 1}

    def test_names_of_models_are_in_the_sums_of_all_owners_too(self) -> None:
        for number in range(10):
            counted("acme", start=OLD, model=f"m{number}", miss=number)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        totals = MetricBucket.objects.filter(owner=ALL).values_list("model", "policy", "miss")
        assert set(totals) == {("m7", "", 7), ("m8", "", 8), ("m9", "", 9), ("(others)", "(others)", 21)}
        assert compact() == 0

    def test_a_day_has_no_more_of_them_than_an_hour(self) -> None:
        start = (NOW // DAY - 20) * DAY
        for number in range(12):
            counted(f"t{number:02}", process="one", start=start + number % 4 * HOUR, model=f"m{number}", hit=number + 1)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        rows_ = MetricBucket.objects.exclude(Q(owner=OTHERS) | Q(model="(others)"))
        assert {(row.span, row.owner == ALL) for row in rows_} == {(DAY, False), (DAY, True)}
        assert [rows_.filter(total=total).count() for total in (OF_PLACE, OF_OWNER, OF_ALL)] == [3, 3, 3]

    @override_settings(AICACHE={"METRICS_DAYS": 1})
    def test_the_sum_of_what_came_before_has_no_more_of_them(self) -> None:
        for number in range(10):
            counted(process="one", start=60 + number * DAY, model=f"m{number}", miss=number)
            compact()
        assert of_all() == of_owners() == {"miss": 45}
        totals = MetricBucket.objects.filter(owner=ALL).values_list("span", "model", "miss")
        assert set(totals) == {(EVER, "m7", 7), (EVER, "m8", 8), (EVER, "m9", 9), (EVER, "(others)", 21)}

    def test_who_is_late_stands_beside_the_rest(self) -> None:
        for number in range(5):
            counted(f"t{number}", start=OLD, hit=number + 1)
        compact()
        counted("t0", process="late", start=OLD, hit=100)
        before = of_owners()
        compact()
        assert of_all() == of_owners() == before
        found = stats.read("default").tenants
        assert {name: figures["hit"] for name, figures in found.items()} == {"t0": 100, "t3": 4, "t4": 5, "(others)": 6}


@pytest.mark.django_db
def test_it_does_nothing_where_there_is_no_database() -> None:
    with override_settings(DATABASE_ROUTERS=[type("Nowhere", (), {"allow_migrate": lambda *_, **__: False})()]):
        assert compact() == 0


@pytest.mark.usefixtures("place", "flusher")
def test_several_at_once_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BATCH", 5)
    fill(ALIAS)
    before, sums = told(ALIAS), of_owners(ALIAS)
    wrong: list[Any] = []
    done: list[int] = []
    together = threading.Barrier(3)

    def work() -> None:
        together.wait(30)
        try:
            done.append(compact())
        except Exception as error:  # noqa: BLE001 - told below
            if connections[ALIAS].vendor != "sqlite":  # who waits for long is sent away there, and nothing is changed
                wrong.append(error)
        finally:
            connections[ALIAS].close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        wrong += [found for found in [told(ALIAS)] if found != before]
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert told(ALIAS) == before
    compact()
    assert told(ALIAS) == before
    assert of_all(ALIAS) == of_owners(ALIAS) == sums
    assert not MetricBucket.objects.using(ALIAS).filter(start__lt=YOUNG - HOUR).exclude(process="").exists()


@pytest.mark.parametrize("place", ON[1:], indirect=True)
@pytest.mark.usefixtures("flusher")
def test_it_waits_for_nobody_who_holds_a_row(place: Any) -> None:
    """Who waits for a row while he holds others may be waited for: that is a deadlock."""
    fill(ALIAS)
    before, due = told(ALIAS), MetricBucket.objects.using(ALIAS).filter(start=OLD)
    with transaction.atomic(using=ALIAS):
        assert due.select_for_update()[:1].get().process
        assert not in_a_thread(ALIAS, compact)(30), "it waits"
    assert told(ALIAS) == before
    compact()
    assert told(ALIAS) == before
    assert not due.exclude(process="").exists()
