"""The table at the end of the tour, in terminals of any width."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("site")


def outcomes() -> list[Any]:
    from example_project.tour.records import Outcome, Run, Seen
    from example_project.tour.steps import STEPS

    answers = {"miss": 1, "coalesced": 90, "hit": 9}
    seen = [
        Seen("", status, 0.1, tokens_saved=300 * (status != "miss"), usd_saved=Decimal("0.0007"))
        for status, many in answers.items()
        for _ in range(many)
    ]
    run = Run(seen, lost=1, note="a remark that is so long that it needs another line on all but the widest terminals")
    return [Outcome(step.name, step.promise, run, 12.3, 2, ("it was broken",)) for step in STEPS]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    from example_project.tour.table import table
    from example_project.tour.terminal import Terminal

    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(table(outcomes(), Terminal(io.StringIO())))
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    for outcome in outcomes():
        for said in (outcome.name, outcome.promise, outcome.run.note, "Not so: it was broken."):
            assert said in text


@pytest.mark.parametrize(("columns", "at"), [(80, 1), (120, 0)])
def test_what_the_cache_did_stands_beside_the_question_or_below_it(
    monkeypatch: pytest.MonkeyPatch, columns: int, at: int
) -> None:
    from example_project.tour.table import table
    from example_project.tour.terminal import Terminal

    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(table(outcomes(), Terminal(io.StringIO())))
    [first, *_] = [number for number, line in enumerate(lines) if line.startswith("✗ A new question")]
    assert "1 miss, 90 coalesced, 9 hit, 1 killed" in lines[first + at]
