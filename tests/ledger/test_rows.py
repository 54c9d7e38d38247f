"""How figures are written down."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

import aicache
from aicache.core.tags import EVERYBODY
from aicache.core.usage import PromptUse
from aicache.ledger import rows, stats
from aicache.ledger.cell import Cell
from aicache.ledger.counts import MINUTE, Counts
from aicache.ledger.figures import FIGURES, MISSED, NANO, PROMPTS
from aicache.ledger.hotspots import Hotspots
from aicache.ledger.place import ELSEWHERE, NOBODY, OTHERS, Owner, Place
from aicache.ledger.process import Process
from aicache.models import LONGEST_LABEL, CountingProcess, Hotspot, MetricBucket
from aicache.tenants import tenant_digest
from tests.ledger.conftest import ALIAS
from tests.ledger.prompts import CENT, LARGE, SMALL, again, at, read, waited

PLACE = ("process", "span", "start", "total", "owner", "tenant", "everybody", "model", "policy")


def cell(*uses: PromptUse, place: Place | None = None) -> Cell:
    counts = Counts()
    for use in uses:
        counts.prompted(at() if place is None else place, use)
    (found,) = counts.known()
    return found


class TestARow:
    def test_has_every_figure_and_money_in_billionths(self) -> None:
        found = rows.row(cell(again(Decimal("0.0000000124")), waited(1.0, -CENT)), "one")
        assert set(found) == {*PLACE, *FIGURES, *NANO}
        assert (found["redundant_nano_usd"], found["gate_nano_usd"]) == (12, -10_000_000)
        assert (found["tenant"], found["model"], found["policy"], found["process"]) == ("acme", LARGE, "chat", "one")
        assert (found["span"], found["start"] % MINUTE, found["owner"]) == (MINUTE, 0, tenant_digest("acme"))

    def test_is_a_columns_for_each_name(self) -> None:
        columns = {field.name for field in MetricBucket._meta.concrete_fields}
        assert columns == {"id", *PLACE, *FIGURES, *NANO}

    @pytest.mark.parametrize(
        ("tenant", "owner", "label", "everybody"),
        [
            ("acme", tenant_digest("acme"), "acme", False),
            (aicache.GLOBAL, EVERYBODY, "", True),
            (None, NOBODY, "", False),
            (ELSEWHERE.tenant, OTHERS, "", False),
            (Owner("d" * 32, "cut", False), "d" * 32, "cut", False),
        ],
    )
    def test_says_whose_it_is(self, tenant: Any, owner: str, label: str, everybody: bool) -> None:
        found = rows.row(cell(read(), place=Place(tenant)), "one")
        assert (found["owner"], found["tenant"], found["everybody"]) == (owner, label, everybody)

    def test_fits_into_the_table_whatever_a_model_is_called(self) -> None:
        names = "m" * 300 + "a", "m" * 300 + "b", "a\0b", "\ud800", ""
        counts = Counts()
        for name in names:
            counts.prompted(at(name), read())
        found = {row["model"]: row for row in (rows.row(each, "one") for each in counts.known())}
        assert set(found) == {"m" * LONGEST_LABEL, "a\ufffdb", "?", ""}
        assert found["m" * LONGEST_LABEL]["reads"] == 2


@pytest.mark.usefixtures("place", "flusher")
class TestWriting:
    def test_may_be_done_twice_or_anew(self) -> None:
        first = cell(again()), cell(read(), place=at(SMALL))
        every = cell(again(), again(), *(PromptUse(LARGE, miss_reason=word) for word in MISSED), waited(1.0))
        for found in (*first, every):
            found.minute = MINUTE
        for cells, process in ((first, "one"), (first, "one"), ((every,), "one"), (first, "two")):
            rows.write_cells(cells, process, using=ALIAS)

        found = MetricBucket.objects.using(ALIAS).order_by("process", "model")
        assert list(found.values_list("process", "model")) == [(p, m) for p in ("one", "two") for m in (SMALL, LARGE)]
        written = {name: value for name, value in found.values()[1].items() if name != "id"}
        expected = rows.row(every, "one")
        assert written == expected
        assert all(expected[name] for name in PROMPTS if name != "unpriced_prompts")

    @pytest.mark.parametrize("name", ["it's", "100 %s", '"; DROP', "日本語", "\\", "%(a)s", "{0}"])
    def test_names_are_what_they_are(self, name: str) -> None:
        rows.write_cells([cell(read(), place=Place(name, name, name))], "one", using=ALIAS)
        (found,) = MetricBucket.objects.using(ALIAS).values("tenant", "model", "policy")
        assert set(found.values()) == {name}

    def test_of_many_is_done_a_few_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "AT_ONCE", 2)
        cells = [
            cell(read(number + 1), place=at(model, f"t{number}"))
            for number in range(3)
            for model in (LARGE, SMALL, "third")
        ]
        asked: list[int] = []
        rows.write_cells(
            cells, "one", using=ALIAS, in_time=lambda: asked.append(MetricBucket.objects.using(ALIAS).count())
        )
        assert MetricBucket.objects.using(ALIAS).count() == 9
        assert asked == [0, 2, 4, 6, 8]
        assert [stats.read(ALIAS).prompts[f"t{number}"][LARGE]["read_tokens"] for number in range(3)] == [1, 2, 3]

    def test_stops_where_it_is_not_in_time(self) -> None:
        def late() -> None:
            raise rows.Overdue("late")

        with pytest.raises(rows.Overdue):
            rows.write_cells([cell(read())], "one", using=ALIAS, in_time=late)
        assert not MetricBucket.objects.using(ALIAS).exists()

    def test_keeps_figures_of_any_size_that_a_day_may_bring(self) -> None:
        found = cell(read(10**15), waited(10**9, Decimal(10**8)))
        rows.write_cells([found], "one", using=ALIAS)
        figures = stats.read(ALIAS).tenants["acme"]
        assert (figures["read_tokens"], figures["gate_waited_ms"]) == (10**15 + 4000, 10**12)
        assert figures.usd("gate") == 10**8

    def test_hot_spots_have_whole_figures_too(self) -> None:
        spots = Hotspots()
        for _ in range(2):
            spots.note("miss", at(), "question", CENT, told=LARGE, key="k")
            for _ in range(2):
                rows.write_hotspots(spots.take(), "one", using=ALIAS)
        (found,) = Hotspot.objects.using(ALIAS).values()
        assert (found["times"], found["nano_usd"], found["label"], found["key"]) == (2, 20_000_000, LARGE, "k")
        assert (found["tenant"], found["kind"], found["process"], found["span"]) == ("acme", "miss", "one", 3600)


@pytest.mark.usefixtures("place")
class TestTheProcess:
    def write(self, process: Process, flushed: int = 1, announced: int = 5, *, is_new: bool) -> bool:
        return rows.write_process(process, flushed, announced, Counts(), using=ALIAS, is_new=is_new)

    def test_is_written_anew_each_time(self) -> None:
        process = Process.this()
        assert self.write(process, is_new=True)
        assert self.write(process, 3, 9, is_new=False)
        found = CountingProcess.objects.using(ALIAS).get()
        assert (found.id, found.pid, found.host) == (process.id, process.pid, process.host)
        assert (found.flushed, found.announced, found.under_way) == (3, 9, {})
        assert found.unsettled % MINUTE == 0 < found.unsettled < rows.GONE

    def test_may_be_written_twice_as_a_new_one(self) -> None:
        process = Process.this()
        assert self.write(process, is_new=True)
        assert self.write(process, 3, 9, is_new=True)
        assert CountingProcess.objects.using(ALIAS).get().flushed == 3

    @pytest.mark.parametrize("how", ["taken to be gone", "forgotten"])
    def test_that_was_given_up_is_told_so_and_stays_as_it_was(self, how: str) -> None:
        process = Process.this()
        self.write(process, is_new=True)
        known = CountingProcess.objects.using(ALIAS)
        if how == "forgotten":
            known.all().delete()
        else:
            known.update(unsettled=rows.GONE)
        assert not self.write(process, 3, 9, is_new=False)
        assert [found.flushed for found in known.all()] == ([] if how == "forgotten" else [1])


@pytest.mark.usefixtures("place")
class TestThePlace:
    @pytest.mark.parametrize("lacking", [MetricBucket, Hotspot])
    def test_is_none_where_either_table_is_lacking(self, lacking: Any) -> None:
        rows.find_place(ALIAS)
        with connections[ALIAS].schema_editor() as editor:
            editor.delete_model(lacking)
        with pytest.raises(rows.NoPlace, match=f"lacks their tables: run .*migrate --database {ALIAS}") as told:
            rows.find_place(ALIAS)
        assert not told.value.is_meant

    def test_is_none_where_the_sites_routers_want_none(self) -> None:
        class Nowhere:
            def allow_migrate(self, *_: Any, **__: Any) -> bool:
                return False

        with override_settings(DATABASE_ROUTERS=[Nowhere()]), pytest.raises(rows.NoPlace, match="routers") as told:
            rows.find_place(ALIAS)
        assert told.value.is_meant
