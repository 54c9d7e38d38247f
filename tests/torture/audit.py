"""When all is over: everything is drained, and every question is asked once more."""

from __future__ import annotations

import time
from typing import Any

import aicache
from tests.torture.board import Board
from tests.torture.cells import Cell, Question
from tests.torture.drainer import drain
from tests.torture.place import Truth
from tests.torture.reader import about

PATIENCE = 15.0


def audit(board: Board, questions: list[Question], cells: list[Cell], configuration: dict[str, Any]) -> list[Any]:
    """→ how many answers were there and right; or what was wrong, in words."""
    from aicache.freshness.drain import pending

    truth, numbers = Truth(configuration), [cell.number for cell in cells]
    deadline = time.monotonic() + PATIENCE
    while not (drain(board, truth, numbers) and not pending()):
        if time.monotonic() > deadline:
            return [f"{pending()} invalidations stay pending"]
        time.sleep(0.2)
    committed = truth.versions(numbers)
    right = kept = 0
    wrong: list[Any] = []
    for question in questions:
        least = {cell.number: committed.get(cell.number, 0) for cell in question.cells}
        with about(question) as calls:
            told = aicache.remember({"question": question.text}, lambda least=least: least)
        told = dict.fromkeys(least, 0) | {int(cell): version for cell, version in told.items()}
        kept += calls.last is not None and calls.last.status == "hit"
        right += told == least
        if told != least:
            wrong.append(f"afterwards {question.text!r} is told {told}, and the database says {least}")
    return wrong or [right, kept]
