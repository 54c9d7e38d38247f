"""What each event adds to the figures of its place and minute."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicache.core.callinfo import CallInfo
from aicache.core.records import Answer, Before, Entry, Served
from aicache.core.usage import PromptUse
from aicache.ledger.cell import Cell
from aicache.ledger.figures import AT, FIGURES, HIT_BINS, HIT_TIMES, STATUSES, UPSTREAM_BINS, UPSTREAM_TIMES, USD
from aicache.ledger.place import Place
from aicache.ledger.prices import Price
from tests.ledger.prompts import CENT, LARGE, again, read, waited, wrote

MINUTE = 60


def cell(*uses: PromptUse) -> Cell:
    made = Cell(MINUTE, Place("acme", LARGE, "chat"))
    for use in uses:
        made.prompted(use)
    return made


def numbers(found: Cell) -> dict[str, int]:
    """Those that are not 0."""
    return {name: found.figures[at] for name, at in AT.items() if found.figures[at]}


def usd(found: Cell) -> dict[str, Decimal]:
    """Likewise."""
    return {name: found.usd[at] for name, at in USD.items() if found.usd[at]}


class TestPrompted:
    def test_are_those_of_what_was_read_and_written(self) -> None:
        found = cell(read(), read(1000), wrote(), read(500, written=70), PromptUse(LARGE))
        assert numbers(found) == {"reads": 3, "read_tokens": 5500, "writes": 2, "written_tokens": 4070}
        assert usd(found) == {}

    def test_say_what_was_written_again_and_for_how_much(self) -> None:
        found = cell(wrote(), again(), again(CENT * 2))
        assert numbers(found) == {
            "writes": 3,
            "written_tokens": 12_000,
            "redundant_writes": 2,
            "redundant_tokens": 6000,
        }
        assert usd(found) == {"redundant": CENT * 3}

    def test_say_who_waited_for_how_long_and_what_that_saved(self) -> None:
        found = cell(waited(1.2346), waited(0.4, CENT * 3), waited(2.0, -CENT), read())
        assert numbers(found) == {"reads": 4, "read_tokens": 16_000, "gate_waits": 3, "gate_waited_ms": 3635}
        assert usd(found) == {"gate": CENT * 3}

    def test_count_each_call_once_whose_price_is_not_known_and_of_the_others_the_money(self) -> None:
        unknown = wrote(redundant=3000, redundant_usd=None, saved_usd=None)
        found = cell(again(None), waited(1.0, None), unknown, again(), waited(1.0))
        assert numbers(found)["unpriced_prompts"] == 3
        assert usd(found) == {"redundant": CENT, "gate": CENT}
        assert "unpriced_prompts" not in numbers(cell(again(Decimal(0)), waited(1.0, Decimal(0))))

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
        found = cell(*(PromptUse(LARGE, miss_reason=word) for _ in range(2)), PromptUse(LARGE))
        assert numbers(found) == {counted: 2}

    def test_of_several_add_up(self) -> None:
        every = [read(), again(), waited(1.5), again(None), PromptUse(LARGE, miss_reason="unavailable")]
        whole, part = cell(*every), cell(*every[:2])
        part.take(cell(*every[2:]))
        assert (part.figures, part.usd) == (whole.figures, whole.usd)
        assert usd(part) == {"redundant": CENT, "gate": CENT}


def served(status: Any = "miss", *, before: Before | None = None, **more: Any) -> Served:
    return Served(status, before=before, **more)


class TestEnded:
    @pytest.mark.parametrize("status", STATUSES)
    def test_adds_one_to_its_status(self, status: Any) -> None:
        found = cell()
        found.ended(CallInfo(status), None, None)
        assert numbers(found) == {status: 1}
        assert usd(found) == {}

    @pytest.mark.parametrize("status", STATUSES)
    def test_takes_the_time_of_those_that_were_served_from_what_is_kept(self, status: Any) -> None:
        found = cell()
        found.ended(CallInfo(status), None, 0.0031)
        timed = {"hit_us": 3100, "hit_3": 1} if status in ("hit", "stale", "semantic") else {}
        assert numbers(found) == {status: 1, **timed}

    def test_counts_what_was_saved_and_the_premium_in_it(self) -> None:
        answer = Answer(b"{}", usd=CENT, premium=CENT / 4, tokens=100)
        found = cell()
        kept = served("hit", entry=Entry("k", "t", answer, 0.0, 0.0, 0.0))
        found.ended(CallInfo("hit", saved_usd=CENT, saved_tokens=100), kept, None)
        found.ended(CallInfo("hit", saved_usd=None, saved_tokens=7), kept, None)
        assert numbers(found) == {"hit": 2, "saved_tokens": 107, "unpriced": 1}
        assert usd(found) == {"saved": CENT, "premium": CENT / 4}

    def test_counts_who_waited_for_anothers_call_and_for_how_long(self) -> None:
        found = cell()
        for seconds in (0.0, 1.2346, 0.5):
            found.ended(CallInfo("coalesced"), served("coalesced", waited=seconds), None)
        found.ended(CallInfo("error"), served("error", waited=9.0), None)
        assert numbers(found) == {"coalesced": 3, "error": 1, "waits": 2, "waited_ms": 1735}


class TestMissed:
    @pytest.mark.parametrize(
        ("before", "counted"),
        [
            (None, {}),
            (Before(), {}),
            (Before("shop.article:7"), {"stale_blocked": 1}),
            (Before("shop.article:7", 1.0), {}),
            (
                Before("", 0.001),
                {"expired": 1, **dict.fromkeys(["late_1m", "late_10m", "late_1h", "late_6h", "late_1d"], 1)},
            ),
            (
                Before("", 60.0),
                {"expired": 1, **dict.fromkeys(["late_1m", "late_10m", "late_1h", "late_6h", "late_1d"], 1)},
            ),
            (Before("", 60.1), {"expired": 1, **dict.fromkeys(["late_10m", "late_1h", "late_6h", "late_1d"], 1)}),
            (Before("", 3600.1), {"expired": 1, **dict.fromkeys(["late_6h", "late_1d"], 1)}),
            (Before("", 86400.1), {"expired": 1}),
        ],
    )
    def test_is_blocked_by_what_died_or_expired_and_never_both(
        self, before: Before | None, counted: dict[str, int]
    ) -> None:
        found = cell()
        found.missed(served(before=before), CENT)
        found.missed(served(before=before), None)
        assert numbers(found) == {name: 2 * number for name, number in counted.items()}
        assert usd(found) == ({"expired": CENT} if "expired" in counted else {})


class TestAnswered:
    @pytest.mark.parametrize(
        ("seconds", "bin_"), [(0.0, "upstream_0"), (0.25, "upstream_0"), (0.2501, "upstream_1"), (500.0, "upstream_10")]
    )
    def test_is_timed_in_the_bin_up_to_whose_bound_it_took(self, seconds: float, bin_: str) -> None:
        found = cell()
        found.answered(seconds)
        assert numbers(found) == ({"upstream_ms": round(seconds * 1000)} if seconds else {}) | {bin_: 1}

    def test_has_a_bin_for_each_bound_and_one_above(self) -> None:
        for times, bins in ((HIT_TIMES, HIT_BINS), (UPSTREAM_TIMES, UPSTREAM_BINS)):
            assert len(bins) == len(times) + 1
            assert sorted(times) == [*times]


def test_an_answer_is_charged_or_unpriced() -> None:
    found = cell()
    found.charged(Price(CENT, tokens=30))
    found.charged(Price(Decimal(0), tokens=5))
    found.charged(Price(None, tokens=7))
    assert numbers(found) == {"upstream_tokens": 42, "unpriced_spent": 1}
    assert usd(found) == {"spent": CENT}


def test_what_was_looked_at_is_checked_and_perhaps_wrong() -> None:
    found = cell()
    for wrong in (True, False, False):
        found.judged(wrong=wrong)
    assert numbers(found) == {"checked": 3, "wrong": 1}


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, len(FIGURES) - 1), st.booleans())))
def test_what_is_offered_and_what_is_left_of_it_add_up(steps: list[tuple[int, int, bool]]) -> None:
    found = cell()
    written, given_away = cell(), cell()
    for number, at, is_let_go in steps:
        found.figures[at] += number
        found.usd[0] += number
        written = found.offer()
        if is_let_go:
            given_away.take(written)
            found.let_go()
            assert found.is_empty
            written = cell()
    given_away.take(written)
    assert given_away.figures == [sum(n for n, at, _ in steps if at == name) for name in range(len(FIGURES))]
    assert given_away.usd[0] == sum(number for number, _, _ in steps)


def test_what_came_after_it_was_offered_is_left_when_it_is_let_go() -> None:
    found = cell(read(), again())
    found.offer()
    found.sent(1)
    found.took_back()
    found.prompted(again())
    found.let_go()
    assert numbers(found) == {
        "upstream_calls": 1,
        "error": -1,
        "writes": 1,
        "written_tokens": 4000,
        "redundant_writes": 1,
        "redundant_tokens": 3000,
    }
    assert usd(found) == {"redundant": CENT}
    assert found.offered is None
