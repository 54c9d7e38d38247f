"""Memory that all processes share: what is acknowledged, and what each has counted. It outlives whoever is killed."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Final

STATUSES: Final = ("hit", "stale", "coalesced", "miss", "degraded", "other")
READER: Final = ("reads", *STATUSES, "strict", "copies", "keys", "pins", "failures", "found_stale")
WRITER: Final = ("saves", "purges", "pending", "failures", "silent")
OTHERS: Final = ("stopping", "over", "drains", "drained", "drain_failures")


class Table:
    """Numbers of 64 bits, each written by one process at a time and in one piece."""

    def __init__(self, rows: int, columns: Iterable[str]) -> None:
        self._columns = {name: at for at, name in enumerate(columns)}
        self.rows = rows
        memory = mmap.mmap(-1, max(8 * rows * len(self._columns), 8))
        self._numbers = memoryview(memory).cast("q")

    def get(self, row: int, column: str) -> int:
        return self._numbers[row * len(self._columns) + self._columns[column]]

    def set(self, row: int, column: str, number: int) -> None:
        self._numbers[row * len(self._columns) + self._columns[column]] = number

    def add(self, row: int, column: str, number: int = 1) -> None:
        self.set(row, column, self.get(row, column) + number)

    def total(self, column: str) -> int:
        return sum(self.get(row, column) for row in range(self.rows))


class Board:
    """``acknowledged`` has a column for the cell's writer and one for the drain: each has one who writes it.

    ``leading``: until when (``time.monotonic_ns``) upstream works for that reader, 0 where it does not.
    """

    def __init__(self, cells: int, readers: int, writers: int) -> None:
        self.acknowledged = Table(cells, ("saver", "drain"))
        self.readers = Table(readers, (*READER, "leading"))
        self.writers = Table(writers, WRITER)
        self.others = Table(1, OTHERS)

    def least(self, cell: int) -> int:
        """The version that a request must see at least that begins now."""
        return max(self.acknowledged.get(cell, "saver"), self.acknowledged.get(cell, "drain"))

    @property
    def stopping(self) -> bool:
        return bool(self.others.get(0, "stopping"))
