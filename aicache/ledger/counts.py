"""What happened in this process, as plain numbers under one lock: for each minute and tenant. No I/O, no waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, get_args

from aicache.core.callinfo import CallInfo
from aicache.core.records import Status
from aicache.core.usage import PromptUse
from aicache.ledger.prompts import PromptFigures
from aicache.tenants import Tenant

STATUSES: Final[tuple[str, ...]] = get_args(Status)
FIGURES: Final = (*STATUSES, "upstream_calls", "saved_tokens", "unpriced")
AT: Final = {name: at for at, name in enumerate(FIGURES)}
ERROR, UPSTREAM, TOKENS, UNPRICED = (AT[name] for name in ("error", "upstream_calls", "saved_tokens", "unpriced"))

MINUTE: Final = 60
# For so long it is known which figure a call that failed is taken back from when it is tried again: the longest attempt
# that the SDK allows takes 10 minutes, and its pauses are short.
RETRIED_FOR: Final = 30 * MINUTE
# And of so many: a storm must not fill the memory. What is forgotten and tried again counts as another call.
MOST_FAILED: Final = 10_000
# While the database is away, what is older than this is counted as of now: so only tenants take memory, not time.
APART_FOR: Final = 60 * MINUTE


class Cell:
    """The figures of one tenant in one minute (unix seconds of its beginning). They may go down.

    ``prompts``: by model. ``offered``: it was given to be written, and perhaps is: its figures must not move into
    another one.
    """

    __slots__ = ("figures", "minute", "offered", "premium", "prompts", "tenant", "usd")

    def __init__(self, minute: int, tenant: Tenant | None) -> None:
        self.minute = minute
        self.tenant = tenant
        self.figures = [0] * len(FIGURES)
        self.usd = self.premium = Decimal(0)
        self.prompts: dict[str, PromptFigures] = {}
        self.offered = False

    def copy(self) -> Cell:
        copied = Cell(self.minute, self.tenant)
        copied.take(self)
        return copied

    def take(self, other: Cell) -> None:
        self.figures = [own + others for own, others in zip(self.figures, other.figures, strict=True)]
        self.usd += other.usd
        self.premium += other.premium
        for model, others in other.prompts.items():
            self.prompts.setdefault(model, PromptFigures()).take(others)


class Counts:
    """``events``: how often anything was counted. ``alarm`` is called when more than ``alarm_at`` are expected.

    For threads, tasks, and what runs as garbage is collected: who holds the lock may take it again.
    """

    def __init__(self, alarm: Callable[[], None] = lambda: None) -> None:
        self.events = 0
        self.alarm_at: float = -1
        self._alarm = alarm
        self._lock = threading.RLock()
        self._under_way: set[str] = set()
        self._minute = 0
        self._cells: dict[Tenant | None, Cell] = {}  # of this minute
        self._changed: dict[Cell, None] = {}  # since they were last taken to be written
        self._taken: list[Cell] = []
        self._failed: dict[str, Cell] = {}

    @property
    def expected(self) -> int:
        """What has been counted, and what will be as the calls that are under way end."""
        return self.events + len(self._under_way)

    def settled(self) -> tuple[int, int]:
        """Events, and those that are expected, of one moment."""
        with self._lock:
            return self.events, self.expected

    def began(self, call: str) -> None:
        """An attempt is under way, and will be counted when it ends."""
        self._under_way.add(call)
        if self.events + len(self._under_way) > self.alarm_at:
            self._alarm()

    def ended(self, call: str, tenant: Tenant | None, info: CallInfo, premium: Decimal, *, retried: bool) -> None:
        """``retried``: it takes the place of the failure that an earlier attempt of this call ended with."""
        with self._lock:
            if retried and (earlier := self._failed.pop(call, None)) is not None:
                earlier.figures[ERROR] -= 1
                self._changed[earlier] = None
            cell = self._cell(tenant)
            figures = cell.figures
            figures[AT[info.status]] += 1
            if info.status == "error":
                self._remember(call, cell)
            elif info.saved_usd is None:
                figures[UNPRICED] += 1
            elif info.saved_usd:
                cell.usd += info.saved_usd
                cell.premium += premium
            figures[TOKENS] += info.saved_tokens
            self._under_way.discard(call)
            self._count(cell)

    def prompted(self, tenant: Tenant | None, use: PromptUse) -> None:
        """What a call has done at the provider's prompt cache."""
        with self._lock:
            cell = self._cell(tenant)
            cell.prompts.setdefault(use.model, PromptFigures()).add(use)
            self._count(cell)

    def sent(self, tenant: Tenant | None) -> Cell:
        """A request goes out. → where it was counted."""
        with self._lock:
            cell = self._cell(tenant)
            cell.figures[UPSTREAM] += 1
            self._count(cell)
            return cell

    def not_sent(self, cell: Cell) -> None:
        """It never left."""
        with self._lock:
            cell.figures[UPSTREAM] -= 1
            self._count(cell)

    def take(self) -> tuple[list[Cell], int]:
        """Copies of the cells that changed since, to be written; and how many events there were by then."""
        with self._lock:
            self._turn()
            self._taken, self._changed = list(self._changed), {}
            for cell in self._taken:
                cell.offered = True
            return [cell.copy() for cell in self._taken], self.events

    def written(self) -> None:
        """All that was taken."""
        with self._lock:
            self._taken = []

    def not_written(self) -> None:
        """Not all that was taken."""
        with self._lock:
            self._changed = {**dict.fromkeys(self._taken), **self._changed}
            self._taken = []

    def known(self) -> list[Cell]:
        """Copies of all that is in memory: this minute's, and what was not written. Each is complete in itself."""
        with self._lock:
            cells: Iterable[Cell] = (*self._cells.values(), *self._changed, *self._taken)
            return [cell.copy() for cell in dict.fromkeys(cells)]

    def _count(self, cell: Cell) -> None:
        self._changed[cell] = None
        self.events += 1
        if self.events + len(self._under_way) > self.alarm_at:
            self._alarm()

    def _cell(self, tenant: Tenant | None) -> Cell:
        if time.time() >= self._minute + MINUTE:
            self._turn()
        cell = self._cells.get(tenant)
        if cell is None:
            cell = self._cells[tenant] = Cell(self._minute, tenant)
        return cell

    def _turn(self) -> None:
        """To another minute. Never back, whatever the clock does: that one is written and let go."""
        minute = int(time.time()) // MINUTE * MINUTE
        if minute <= self._minute:
            return
        self._minute, self._cells = minute, {}
        self._failed = {call: cell for call, cell in self._failed.items() if cell.minute > minute - RETRIED_FOR}
        for old in [cell for cell in self._changed if cell.minute < minute - APART_FOR and not cell.offered]:
            del self._changed[old]
            cell = self._cell(old.tenant)
            cell.take(old)
            self._changed[cell] = None

    def _remember(self, call: str, cell: Cell) -> None:
        self._failed[call] = cell
        while len(self._failed) > MOST_FAILED:
            del self._failed[next(iter(self._failed))]
