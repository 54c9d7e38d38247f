"""A process that runs ``manage.py drain_invalidations`` every second, and acknowledges what was pending before."""

from __future__ import annotations

import io
import logging
import re
import time
from typing import Any

from django.core.management import CommandError, call_command

from tests.torture.board import Board
from tests.torture.place import Truth

logger = logging.getLogger("torture")

INTERVAL = 1.0


def run(board: Board, cells: list[int], configuration: dict[str, Any]) -> None:
    truth = Truth(configuration)
    while not board.stopping:
        time.sleep(INTERVAL)
        drain(board, truth, cells)


def drain(board: Board, truth: Truth, cells: list[int]) -> bool:
    """Whether nothing is pending of what was committed when this began."""
    committed = truth.versions(cells)
    told = io.StringIO()
    try:
        call_command("drain_invalidations", stdout=told, stderr=io.StringIO())
    except CommandError:
        return False
    except Exception:
        logger.exception("the drain failed")
        board.others.add(0, "drain_failures")
        return False
    board.others.add(0, "drains")
    applied = re.search(r"default: (\d+) applied", told.getvalue())
    board.others.add(0, "drained", int(applied[1]) if applied else 0)
    for cell, version in committed.items():
        board.acknowledged.set(cell, "drain", version)
    return True
