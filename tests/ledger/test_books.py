"""What the prompt-cache gate asks of the ledger."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import aicache
from aicache.ledger import counting, prices, stats
from aicache.ledger.books import Books
from aicache.ledger.counts import Counts
from aicache.ledger.flusher import Flusher
from tests.ledger.prompts import LARGE, at, read


def test_note_whose_it_was(flusher: Flusher) -> None:
    for tenant in ("acme", aicache.GLOBAL, None):
        Books(at(tenant=tenant)).note(read())
    told = {tenant: models[LARGE]["reads"] for tenant, models in stats.unwritten().prompts.items()}
    assert told == {"acme": 1, "(everybody)": 1, "(nobody)": 1}


def test_know_the_prices() -> None:
    books, used = Books(at()), {"input_tokens": 9, "output_tokens": 9, "cache_read_input_tokens": 4000}
    told = {"model": LARGE, "usage": used}
    assert books.cost(told) == prices.price(told).usd
    assert books.worth(LARGE, 4000, 3600.0) == prices.worth(LARGE, 4000, 3600.0)
    assert books.rewriting(told, 400, 300.0, read=True) == prices.rewriting(told, 400, 300.0, read=True) != 0
    assert books.rewriting(told, 400, 300.0, read=False) == 0
    assert books.cost(None) is books.worth("none", 1, 300.0) is books.rewriting("", 1, 300.0, read=True) is None


def test_that_cannot_count_say_so_once_and_are_nobodys_error(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(counting, "_told", False)
    monkeypatch.setattr(Counts, "prompted", fail)
    for _ in range(2):
        Books(at()).note(read())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "calls are not counted"
    ]
