"""What is under way: calls, and requests to upstream."""

from __future__ import annotations

import time

from aicache.ledger.cell import Cell
from aicache.ledger.place import Place

Attempt = tuple[Place, float]
"""Of a call, and when it began, of the monotonic clock."""


class Request:
    """``cell``: where it was counted as it went out. ``at``: when, of the monotonic clock."""

    __slots__ = ("at", "cell", "place")

    def __init__(self, place: Place, cell: Cell) -> None:
        self.place = place
        self.cell = cell
        self.at = time.monotonic()
