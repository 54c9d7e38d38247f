"""Figures and words on the pages."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest

from aicache.core.callinfo import CallInfo
from aicache.core.records import Status

pytestmark = pytest.mark.usefixtures("site")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 ms"),
        (0.00084, "0.8 ms"),
        (0.00949, "9.5 ms"),
        (0.00951, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (298.2, "4 min 58 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_duration_has_as_many_figures_as_one_wants_to_read(seconds: float, shown: str) -> None:
    from example_project.helpcentre.card import duration

    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(Decimal("0.00123"), "$0.0012"), (Decimal(0), "$0"), (None, "no price known")]
)
def test_dollars_are_shown_to_a_hundredth_of_a_cent(amount: Decimal | None, shown: str) -> None:
    from example_project.helpcentre.card import dollars

    assert dollars(amount) == shown


def test_each_status_has_its_sentence() -> None:
    from example_project.helpcentre.card import MEANINGS

    assert set(MEANINGS) == set(get_args(Status))


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("invalidated:helpcentre.article", "saved or deleted"),
        ("source_changed:helpcentre.article:1", "has changed"),
        ("uncommitted:helpcentre.article:1", "not saved yet"),
        ("superseded", "while Claude was answering"),
    ],
)
def test_each_reason_that_has_to_do_with_a_change_has_its_words(reason: str, said: str) -> None:
    from example_project.helpcentre.answers import NoAnswer
    from example_project.helpcentre.card import Card

    card = Card.of(NoAnswer(CallInfo("miss", reason), 0.1))
    assert said in str(card.reason_words)
    assert card.reason == reason


def test_every_word_on_the_pages_has_its_german() -> None:
    from django.utils.translation import gettext, override

    from example_project.helpcentre.card import MEANINGS, REASONS

    for words in (*MEANINGS.values(), *REASONS.values()):
        with override("en"):
            english = str(words)
        with override("de"):
            assert gettext(english) != english
