"""What calls did at the provider's prompt cache: counted in memory, and written."""

from __future__ import annotations

import logging
import sys
import threading
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, connections

import aicache
from aicache.core.usage import PromptUse
from aicache.ledger import counting, prices, rows, stats
from aicache.ledger import counts as module
from aicache.ledger.books import Books
from aicache.ledger.counts import MINUTE, Cell, Counts
from aicache.ledger.flusher import Flusher
from aicache.ledger.prompts import MISSED, PROMPT_FIGURES, PromptFigures
from aicache.models import LONGEST_LABEL, CallCount, PromptCount
from tests.claude.together import in_threads, until
from tests.ledger.conftest import ALIAS

LARGE, SMALL = "claude-opus-5", "claude-haiku-4-5"
CENT = Decimal("0.01")


def read(tokens: int = 4000, model: str = LARGE, **more: Any) -> PromptUse:
    return PromptUse(model, "open", read=tokens, **more)


def wrote(tokens: int = 4000, model: str = LARGE, **more: Any) -> PromptUse:
    return PromptUse(model, "lead", written=tokens, **more)


def again(usd: Decimal | None = CENT) -> PromptUse:
    """It wrote 4000 tokens, 3000 of them of a prefix that lived."""
    return wrote(redundant=3000, redundant_usd=usd)


def waited(seconds: float, usd: Decimal | None = CENT) -> PromptUse:
    return PromptUse(LARGE, "wait", seconds, read=4000, saved_usd=usd)


def figures(*uses: PromptUse) -> PromptFigures:
    found = PromptFigures()
    for use in uses:
        found.add(use)
    return found


def numbers(found: PromptFigures) -> dict[str, int]:
    """Those that are not 0."""
    return {name: number for name, number in found.figures.items() if number}


def of(cell: Cell) -> dict[str, dict[str, int]]:
    return {model: numbers(found) for model, found in cell.prompts.items()}


class TestFigures:
    def test_are_those_of_what_was_read_and_written(self) -> None:
        found = figures(read(), read(1000), wrote(), read(500, written=70), PromptUse(LARGE))
        assert numbers(found) == {"reads": 3, "read_tokens": 5500, "writes": 2, "written_tokens": 4070}
        assert (found.redundant_usd, found.gate_usd) == (0, 0)

    def test_say_what_was_written_again_and_for_how_much(self) -> None:
        found = figures(wrote(), again(), again(CENT * 2))
        assert numbers(found) == {
            "writes": 3,
            "written_tokens": 12_000,
            "redundant_writes": 2,
            "redundant_tokens": 6000,
        }
        assert (found.redundant_usd, found.gate_usd) == (CENT * 3, 0)

    def test_say_who_waited_for_how_long_and_what_that_saved(self) -> None:
        found = figures(waited(1.2346), waited(0.4, CENT * 3), waited(2.0, -CENT), read())
        assert numbers(found) == {"reads": 4, "read_tokens": 16_000, "waits": 3, "waited_ms": 3635}
        assert (found.redundant_usd, found.gate_usd) == (0, CENT * 3)

    def test_count_each_call_once_whose_price_is_not_known_and_of_the_others_the_money(self) -> None:
        unknown = wrote(redundant=3000, redundant_usd=None, saved_usd=None)
        found = figures(again(None), waited(1.0, None), unknown, again(), waited(1.0))
        assert found.figures["unpriced"] == 3
        assert (found.redundant_usd, found.gate_usd) == (CENT, CENT)
        assert figures(again(Decimal(0)), waited(1.0, Decimal(0))).figures["unpriced"] == 0

    @pytest.mark.parametrize(
        ("word", "counted"),
        [
            ("model_changed", "missed_model_changed"),
            ("system_changed", "missed_system_changed"),
            ("tools_changed", "missed_tools_changed"),
            ("messages_changed", "missed_messages_changed"),
            ("previous_message_not_found", "missed_previous_message_not_found"),
            ("unavailable", "missed_unavailable"),
            ("other", "missed_other"),
            ("the_moon_was_full", "missed_other"),
            ("reads", "missed_other"),
        ],
    )
    def test_count_each_word_of_the_providers_and_words_that_are_new_as_others(self, word: str, counted: str) -> None:
        found = figures(*(PromptUse(LARGE, miss_reason=word) for _ in range(2)), PromptUse(LARGE))
        assert numbers(found) == {counted: 2}

    def test_of_several_add_up(self) -> None:
        every = [read(), again(), waited(1.5), again(None), PromptUse(LARGE, miss_reason="unavailable")]
        whole, part = figures(*every), figures(*every[:2])
        part.take(figures(*every[2:]))
        assert (part.figures, part.redundant_usd, part.gate_usd) == (whole.figures, CENT, CENT)


class TestInMemory:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """Stands in for the module: ``now`` may be set."""
        made = SimpleNamespace(now=100_000.0 * MINUTE, time=lambda: made.now)
        monkeypatch.setattr(module, "time", made)
        return made

    def test_they_are_of_a_tenant_and_a_model(self) -> None:
        counts = Counts()
        counts.prompted("acme", read())
        counts.prompted("acme", read(model=SMALL))
        counts.prompted("globex", wrote(5))
        counts.prompted(None, read(7))
        assert {cell.tenant: of(cell) for cell in counts.known()} == {
            "acme": {LARGE: {"reads": 1, "read_tokens": 4000}, SMALL: {"reads": 1, "read_tokens": 4000}},
            "globex": {LARGE: {"writes": 1, "written_tokens": 5}},
            None: {LARGE: {"reads": 1, "read_tokens": 7}},
        }

    def test_each_is_an_event_of_which_a_flusher_hears(self) -> None:
        rung: list[int] = []
        counts = Counts(lambda: rung.append(counts.events))
        counts.alarm_at = 1
        for _ in range(2):
            counts.prompted("acme", read())
        assert counts.settled() == (2, 2)
        assert rung == [2]

    def test_what_is_taken_to_be_written_stays_what_it_was(self) -> None:
        counts = Counts()
        counts.prompted("acme", read())
        (taken,), _ = counts.take()
        (known,) = counts.known()
        counts.prompted("acme", read())
        counts.prompted("acme", read(model=SMALL))
        assert of(taken) == of(known) == {LARGE: {"reads": 1, "read_tokens": 4000}}
        assert counts.take()[0][0].prompts[LARGE].figures["reads"] == 2

    def test_a_minute_is_counted_by_itself_and_goes_along_where_it_is_moved(self, clock: Any) -> None:
        counts = Counts()
        counts.prompted("acme", again())
        clock.now += MINUTE
        counts.prompted("acme", read())
        assert [of(cell)[LARGE].get("writes") for cell in counts.known()] == [None, 1]

        clock.now += 2 * module.APART_FOR
        counts.prompted("acme", read(model=SMALL))
        (cell,), _ = counts.take()
        assert of(cell)[LARGE] == numbers(figures(again(), read()))
        assert cell.prompts[LARGE].redundant_usd == CENT
        assert set(cell.prompts) == {LARGE, SMALL}

    def test_none_is_lost_that_threads_count_at_once(self) -> None:
        counts, interval = Counts(), sys.getswitchinterval()

        def calls(_: int) -> None:
            for _ in range(300):
                counts.prompted("acme", waited(0.001))

        sys.setswitchinterval(1e-6)
        try:
            assert in_threads(8, calls) == [None] * 8
        finally:
            sys.setswitchinterval(interval)
        (cell,) = counts.known()
        assert of(cell) == {LARGE: {"reads": 2400, "read_tokens": 9_600_000, "waits": 2400, "waited_ms": 2400}}
        assert cell.prompts[LARGE].gate_usd == 24


class TestRows:
    def cell(self, *uses: PromptUse, tenant: Any = "acme") -> Cell:
        counts = Counts()
        for use in uses:
            counts.prompted(tenant, use)
        (cell,) = counts.known()
        return cell

    def test_are_one_for_each_model_with_money_in_billionths(self) -> None:
        cell = self.cell(again(Decimal("0.0000000124")), waited(1.0, -CENT), read(model=SMALL))
        large, small = rows.prompt_rows(cell, "one")
        assert (large["model"], small["model"]) == (LARGE, SMALL)
        assert (large["redundant_nano_usd"], large["gate_nano_usd"]) == (12, -10_000_000)
        place = {name: rows.row(cell, "one")[name] for name in (*("process", "minute", *rows.CALLS.whose), *rows.WHOSE)}
        for found in (large, small):
            assert set(found) == {*place, "model", *PROMPT_FIGURES, "redundant_nano_usd", "gate_nano_usd"}
            assert {name: found[name] for name in place} == place
        assert place["tenant"] == "acme"

    def test_fit_into_the_table_whatever_a_model_is_called(self) -> None:
        names = "m" * 300 + "a", "m" * 300 + "b", "a\0b", "\ud800", ""
        found = {row["model"]: row for row in rows.prompt_rows(self.cell(*(read(model=name) for name in names)), "one")}
        assert set(found) == {"m" * LONGEST_LABEL, "a\ufffdb", "?", ""}
        assert found["m" * LONGEST_LABEL]["reads"] == 2

    def test_may_be_written_twice_or_anew(self, place: Any) -> None:
        first = self.cell(again(), read(model=SMALL))
        every = self.cell(again(), again(), *(PromptUse(LARGE, miss_reason=word) for word in MISSED), waited(1.0))
        every.minute = first.minute
        for cell, process in ((first, "one"), (first, "one"), (every, "one"), (first, "two")):
            rows.write_cells([cell], process, using=ALIAS)

        found = PromptCount.objects.using(ALIAS).order_by("process", "model")
        assert list(found.values_list("process", "model")) == [(p, m) for p in ("one", "two") for m in (SMALL, LARGE)]
        written = {name: value for name, value in found.values()[1].items() if name != "id"}
        (expected,) = rows.prompt_rows(every, "one")
        assert written == expected
        assert all(expected[name] for name in expected if name not in ("everybody", "unpriced"))

    def test_of_many_are_written_a_few_at_once(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "AT_ONCE", 2)
        cells = [self.cell(read(at + 1), read(model=SMALL), read(model="third"), tenant=f"t{at}") for at in range(3)]
        rows.write_cells(cells, "one", using=ALIAS)
        assert PromptCount.objects.using(ALIAS).count() == 9
        assert [stats.read(ALIAS).prompts[f"t{at}"][LARGE]["read_tokens"] for at in range(3)] == [1, 2, 3]

    @pytest.mark.parametrize("lacking", [CallCount, PromptCount])
    def test_have_no_place_where_either_table_is_lacking(self, place: Any, lacking: Any) -> None:
        rows.find_place(ALIAS)
        with connections[ALIAS].schema_editor() as editor:
            editor.delete_model(lacking)
        with pytest.raises(rows.NoPlace, match=f"lacks their tables: run .*migrate --database {ALIAS}"):
            rows.find_place(ALIAS)


@pytest.mark.usefixtures("place")
class TestTheFlusher:
    def reads(self) -> int:
        return sum(PromptCount.objects.using(ALIAS).values_list("reads", flat=True))

    def test_writes_them_soon(self, flusher: Flusher) -> None:
        counting.prompted("acme", waited(1.5))
        until(lambda: self.reads() == 1, "it is not written")
        row = PromptCount.objects.using(ALIAS).get()
        assert (row.tenant, row.model, row.waits, row.waited_ms) == ("acme", LARGE, 1, 1500)
        assert (row.process, row.gate_nano_usd) == (flusher.process.id, 10_000_000)

    def test_makes_whole_what_was_written_by_half(self, flusher: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flusher, "_pause", 0.05)
        upsert, failed = rows._upsert, threading.Event()

        def fail(model: Any, *given: Any) -> None:
            if model is PromptCount and not failed.is_set():
                failed.set()
                raise DatabaseError("broken")
            upsert(model, *given)

        monkeypatch.setattr(rows, "_upsert", fail)
        for _ in range(3):
            counting.prompted("acme", read())
        until(lambda: failed.is_set() and self.reads() == 3, "it is not written")
        assert stats.read(ALIAS).prompts["acme"][LARGE]["reads"] == 3


class TestBooks:
    def test_note_whose_it_was(self, flusher: Flusher) -> None:
        for tenant in ("acme", aicache.GLOBAL, None):
            Books(tenant).note(read())
        told = {tenant: models[LARGE]["reads"] for tenant, models in stats.unwritten().prompts.items()}
        assert told == {"acme": 1, "(everybody)": 1, "(nobody)": 1}

    def test_know_the_prices(self) -> None:
        books, used = Books("acme"), {"input_tokens": 9, "output_tokens": 9, "cache_read_input_tokens": 4000}
        told = {"model": LARGE, "usage": used}
        assert books.cost(told) == prices.price(told).usd
        assert books.worth(LARGE, 4000, 3600.0) == prices.worth(LARGE, 4000, 3600.0)
        assert books.rewriting(told, 400, 300.0, read=True) == prices.rewriting(told, 400, 300.0, read=True) != 0
        assert books.rewriting(told, 400, 300.0, read=False) == 0
        assert books.cost(None) is books.worth("none", 1, 300.0) is books.rewriting("", 1, 300.0, read=True) is None

    def test_that_cannot_count_say_so_once_and_are_nobodys_error(
        self, flusher: Flusher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(counting, "_told", False)
        monkeypatch.setattr(Counts, "prompted", fail)
        for _ in range(2):
            Books("acme").note(read())
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
            "calls are not counted"
        ]
