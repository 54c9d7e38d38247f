"""What happened in this process, as plain numbers under one lock: for each minute and place. No I/O, no waiting."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from aicache.core.callinfo import CallInfo
from aicache.core.records import Answer, Served
from aicache.core.usage import PromptUse
from aicache.ledger.cell import Cell
from aicache.ledger.hotspots import Hotspots, Spot
from aicache.ledger.place import ELSEWHERE, OTHERS, Place, whose
from aicache.ledger.prices import Price
from aicache.ledger.request import Attempt, Request
from aicache.ledger.words import Words

MINUTE: Final = 60
# For so long it is known which figure a call that failed is taken back from when it is tried again: the longest attempt
# that the SDK allows takes 10 minutes, and its pauses are short. No figure changes that is older.
RETRIED_FOR: Final = 30 * MINUTE
# And of so many: a storm must not fill the memory. What is forgotten and tried again counts as another call.
MOST_FAILED: Final = 10_000
# While the database is away, what is older than this is counted as of now: so only places take memory, not time.
APART_FOR: Final = 60 * MINUTE
# So many places are told apart in one minute: whoever may choose names must fill neither the memory nor the table. The
# rest is counted together.
MOST_PLACES: Final = 1000
# So many cells at most wait to be written, and a minute's.
MOST_WAITING: Final = 10_000
# Owners whose calls under way are told apart.
MOST_OWNERS: Final = 100


class Counts:
    """``events``: how often anything was counted. ``alarm`` is called when more than ``alarm_at`` are expected.

    For threads, tasks, and what runs as garbage is collected: who holds the lock may take it again.
    """

    def __init__(self, alarm: Callable[[], None] = lambda: None) -> None:
        self.events = 0
        self.alarm_at: float = -1
        self._alarm = alarm
        self._lock = threading.RLock()
        self._under_way: dict[str, Attempt] = {}
        self._out: set[Request] = set()
        self._minute = 0
        # Of this minute: by what their rows are told apart by, and by the places that were asked for.
        self._cells: dict[tuple[str, str, str], Cell] = {}
        self._by_place: dict[Place, Cell] = {}
        self._changed: dict[Cell, None] = {}  # since they were last taken to be written
        self._taken: list[Cell] = []
        self._failed: dict[str, Cell] = {}
        self._models, self._policies = Words(), Words()
        self._hotspots = Hotspots()

    @property
    def expected(self) -> int:
        """What has been counted, and what will be as the calls and requests end that are under way."""
        return self.events + len(self._under_way) + len(self._out)

    def settled(self) -> tuple[int, int]:
        """Events, and those that are expected, of one moment."""
        with self._lock:
            return self.events, self.expected

    @property
    def is_full(self) -> bool:
        """Whether more waits to be written than there should."""
        return len(self._changed) > MOST_WAITING

    def unsettled(self) -> int:
        """The minute from which on figures may still change."""
        with self._lock:
            self._turn()
            changing = (cell.minute for cell in (*self._changed, *self._taken, *self._failed.values()))
            return int(min((self._minute - RETRIED_FOR, self._hotspots.unsettled, *changing)))

    def under_way(self) -> dict[str, int]:
        """Calls, by the owner's digest."""
        whom = Counter(place.tenant for place, _ in list(self._under_way.values()))
        found = Counter({whose(tenant)["owner"]: number for tenant, number in whom.most_common(MOST_OWNERS)})
        found[OTHERS] += whom.total() - found.total()
        return dict(+found)

    def began(self, call: str, place: Place) -> None:
        """An attempt is under way, and will be counted when it ends."""
        self._under_way[call] = (place, time.monotonic())
        self._listen()

    def ended(
        self, call: str, place: Place, info: CallInfo, served: Served | None, question: str, *, retried: bool
    ) -> None:
        """``retried``: it takes the place of the failure that an earlier attempt of this call ended with."""
        with self._lock:
            if retried and (earlier := self._failed.pop(call, None)) is not None:
                self._still(earlier).took_back()
            cell = self._cell(place)
            attempt = self._under_way.pop(call, None)
            cell.ended(info, served, None if attempt is None else time.monotonic() - attempt[1])
            if info.status == "error":
                self._remember(call, cell)
            elif info.status == "miss" and served is not None:
                self._missed(cell, info, served, question)
            self._count(cell)

    def prompted(self, place: Place, use: PromptUse) -> None:
        """What a call has done at the provider's prompt cache."""
        with self._lock:
            cell = self._cell(place)
            cell.prompted(use)
            if use.redundant and use.prefix:
                told = f"{cell.place.model} · {use.redundant}"
                self._hotspots.note("prefix", cell.place, use.prefix, use.redundant_usd or Decimal(0), told=told)
            self._count(cell)

    def judged(self, place: Place, *, wrong: bool) -> None:
        """An answer that was served."""
        with self._lock:
            cell = self._cell(place)
            cell.judged(wrong=wrong)
            self._count(cell)

    def sent(self, place: Place) -> Request:
        """A request goes out. It is to end in one of what follows."""
        with self._lock:
            cell = self._cell(place)
            cell.sent(1)
            request = Request(place, cell)
            self._out.add(request)
            self._count(cell)
            return request

    def not_sent(self, request: Request) -> None:
        """It never left."""
        with self._lock:
            if self._is_out(request):
                cell = self._still(request.cell)
                cell.sent(-1)
                self._count(cell)

    def failed(self, request: Request) -> None:
        """Nothing came of it, and no figure changes by that."""
        with self._lock:
            if self._is_out(request):
                self.events += 1
                self._listen()

    def charged(self, request: Request, price: Price) -> None:
        """An answer came of it, for so much."""
        with self._lock:
            if self._is_out(request):
                cell = self._cell(request.place)
                cell.charged(price)
                self._count(cell)

    def answered(self, request: Request) -> None:
        """Upstream has, or its stream has begun."""
        with self._lock:
            cell = self._cell(request.place)
            cell.answered(time.monotonic() - request.at)
            self._count(cell)

    def take(self) -> tuple[list[Cell], int]:
        """Copies of the cells that changed since, to be written; and how many events there were by then."""
        with self._lock:
            self._turn()
            self._taken, self._changed = list(self._changed), {}
            return [cell.offer() for cell in self._taken], self.events

    def written(self) -> None:
        """All that was taken."""
        with self._lock:
            self._taken = []

    def not_written(self) -> None:
        """Not all that was taken."""
        with self._lock:
            self._changed = {**dict.fromkeys(self._taken), **self._changed}
            self._taken = []

    def take_hotspots(self) -> list[Spot]:
        """Copies of those that changed since, to be written."""
        with self._lock:
            return self._hotspots.take()

    def hotspots_written(self, *, is_done: bool) -> None:
        """All that was taken, or not."""
        with self._lock:
            if is_done:
                self._hotspots.written()
            else:
                self._hotspots.not_written()

    def let_go(self) -> None:
        """Of all that may be written: it is another process's from now on."""
        with self._lock:
            self._hotspots.let_go()
            still = (*self._cells.values(), *self._failed.values(), *(request.cell for request in self._out))
            for cell in dict.fromkeys((*still, *self._changed, *self._taken)):
                cell.let_go()
            self._changed = {cell: None for cell in self._changed if not cell.is_empty}
            self._taken = []

    def known(self) -> list[Cell]:
        """Copies of all that is in memory: this minute's, and what was not written. Each is complete in itself."""
        with self._lock:
            self._turn()  # what is older, and written, may have been rolled up
            cells: Iterable[Cell] = (*self._cells.values(), *self._changed, *self._taken)
            return [cell.copy() for cell in dict.fromkeys(cells)]

    def _listen(self) -> None:
        if self.events + len(self._under_way) + len(self._out) > self.alarm_at:
            self._alarm()

    def _count(self, cell: Cell) -> None:
        self._changed[cell] = None
        self.events += 1
        if self.events + len(self._under_way) + len(self._out) > self.alarm_at:
            self._alarm()

    def _is_out(self, request: Request) -> bool:
        """From now on it is not any more."""
        was_out = request in self._out
        self._out.discard(request)
        return was_out

    def _cell(self, place: Place) -> Cell:
        if time.time() >= self._minute + MINUTE:
            self._turn()
        return self._by_place.get(place) or self._cell_of(place)

    def _cell_of(self, place: Place) -> Cell:
        """By the names that are written down."""
        named = Place(place.tenant, self._models.known(place.model), self._policies.known(place.policy))
        at = (whose(named.tenant)["owner"], named.model, named.policy)
        cell = self._cells.get(at)
        if cell is None and len(self._cells) >= MOST_PLACES:
            named, at = ELSEWHERE, (OTHERS, "", "")
            cell = self._cells.get(at)
        if cell is None:
            cell = self._cells[at] = Cell(self._minute, named)
        if named == place:
            self._by_place[place] = cell
        return cell

    def _still(self, cell: Cell) -> Cell:
        """The cell, or where its place is counted now: what is old enough may not be this process's any more."""
        if time.time() >= self._minute + MINUTE:
            self._turn()
        if cell.minute < self._minute - RETRIED_FOR:
            cell = self._cell(cell.place)
        self._changed[cell] = None
        return cell

    def _missed(self, cell: Cell, info: CallInfo, served: Served, question: str) -> None:
        """An answer was made, at a price."""
        answer = None if served.own is None else served.own.outcome
        usd = answer.usd if isinstance(answer, Answer) else None
        cell.missed(served, usd)
        paid = usd or Decimal(0)
        if question and paid:
            self._hotspots.note("miss", cell.place, question, paid, told=cell.place.model, key=info.key)
        if served.before is not None and served.before.died and not served.before.late:
            died = served.before.died
            self._hotspots.note("tag", cell.place, died, paid, told=died, key=info.key)

    def _turn(self) -> None:
        """To another minute. Never back, whatever the clock does: that one is written and let go."""
        minute = int(time.time()) // MINUTE * MINUTE
        if minute <= self._minute:
            return
        self._minute, self._cells, self._by_place = minute, {}, {}
        self._models.turn(minute)
        self._policies.turn(minute)
        self._failed = {call: cell for call, cell in self._failed.items() if cell.minute > minute - RETRIED_FOR}
        oldest = minute if self.is_full else minute - APART_FOR
        waiting = [cell for cell in self._changed if cell.minute < oldest and not cell.offered]
        self._changed = {cell: None for cell in self._changed if cell.minute >= oldest or cell.offered}
        for old in waiting:
            cell = self._cell(old.place)
            cell.take(old)
            self._changed[cell] = None

    def _remember(self, call: str, cell: Cell) -> None:
        self._failed[call] = cell
        while len(self._failed) > MOST_FAILED:
            del self._failed[next(iter(self._failed))]
