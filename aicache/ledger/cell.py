"""The figures of one place in one minute, and what each event adds to them."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from typing import Final

from aicache.core.callinfo import CallInfo
from aicache.core.records import Served
from aicache.core.usage import PromptUse
from aicache.ledger.figures import (
    AT,
    FIGURES,
    HIT_BINS,
    HIT_TIMES,
    LATE,
    MISSED,
    MONEY,
    OTHER,
    UPSTREAM_BINS,
    UPSTREAM_TIMES,
    USD,
)
from aicache.ledger.place import Place
from aicache.ledger.prices import Price

FREE: Final = Decimal(0)
# Where they stand, for what is counted most often.
UNPRICED, TOKENS, HIT_US = AT["unpriced"], AT["saved_tokens"], AT["hit_us"]
FIRST_HIT, FIRST_UPSTREAM = AT[HIT_BINS[0]], AT[UPSTREAM_BINS[0]]
SAVED, PREMIUM = USD["saved"], USD["premium"]
# Statuses of calls that were answered from what is kept.
KEPT: Final = ("hit", "stale", "semantic")


class Cell:
    """``minute``: unix seconds of its beginning. ``figures`` and ``usd`` in the order of FIGURES and MONEY: they may go
    down. ``offered``: as it was last given to be written, and perhaps is: those figures must not move into another one.
    """

    __slots__ = ("figures", "minute", "offered", "place", "usd")

    def __init__(self, minute: int, place: Place) -> None:
        self.minute = minute
        self.place = place
        self.figures = [0] * len(FIGURES)
        self.usd = [FREE] * len(MONEY)
        self.offered: Cell | None = None

    def copy(self) -> Cell:
        copied = Cell.__new__(Cell)
        copied.minute, copied.place, copied.offered = self.minute, self.place, None
        copied.figures, copied.usd = self.figures[:], self.usd[:]
        return copied

    def offer(self) -> Cell:
        """→ a copy, to be written."""
        self.offered = self.copy()
        return self.offered

    def let_go(self) -> None:
        """Of what was offered: only what came since is left."""
        if (gone := self.offered) is not None:
            self.figures = [own - theirs for own, theirs in zip(self.figures, gone.figures, strict=True)]
            self.usd = [own - theirs for own, theirs in zip(self.usd, gone.usd, strict=True)]
            self.offered = None

    @property
    def is_empty(self) -> bool:
        return not any(self.figures) and not any(self.usd)

    def take(self, other: Cell) -> None:
        self.figures = [own + others for own, others in zip(self.figures, other.figures, strict=True)]
        self.usd = [own + others for own, others in zip(self.usd, other.usd, strict=True)]

    def ended(self, info: CallInfo, served: Served | None, seconds: float | None) -> None:
        """A call. ``seconds`` that it took; None where nobody knows."""
        figures, status, saved = self.figures, info.status, info.saved_usd
        figures[AT[status]] += 1
        figures[TOKENS] += info.saved_tokens
        if seconds is not None and status in KEPT:
            figures[HIT_US] += int(seconds * 1_000_000)
            figures[FIRST_HIT + bisect_left(HIT_TIMES, seconds)] += 1
        if status == "error":
            return
        if saved is None:
            figures[UNPRICED] += 1
        elif saved:
            self.usd[SAVED] += saved
            entry = None if served is None or served.own is not None else served.entry
            if entry is not None and entry.answer.premium:
                self.usd[PREMIUM] += entry.answer.premium
        if served is not None and served.waited > 0:
            self._add(waits=1, waited_ms=round(served.waited * 1000))

    def missed(self, served: Served, usd: Decimal | None) -> None:
        """Another answer was made, for so much, in the place of one that stood."""
        stood = served.before
        if stood is None:
            return
        if stood.died and not stood.late:
            self._add(stale_blocked=1)
        elif stood.late and not stood.died:
            self._add(expired=1, **{name: 1 for name, most in LATE.items() if stood.late <= most})
            self.usd[USD["expired"]] += usd or FREE

    def answered(self, seconds: float) -> None:
        """Upstream, or its stream has begun, after so long."""
        self._add(upstream_ms=round(seconds * 1000))
        self.figures[FIRST_UPSTREAM + bisect_left(UPSTREAM_TIMES, seconds)] += 1

    def charged(self, price: Price) -> None:
        """For one answer of upstream's."""
        self._add(upstream_tokens=price.tokens, unpriced_spent=price.usd is None)
        self.usd[USD["spent"]] += price.usd or FREE

    def judged(self, *, wrong: bool) -> None:
        """Somebody has looked at an answer that was served."""
        self._add(checked=1, wrong=wrong)

    def prompted(self, use: PromptUse) -> None:
        """What a call has done at the provider's prompt cache."""
        self._add(
            reads=use.read > 0,
            writes=use.written > 0,
            redundant_writes=use.redundant > 0,
            read_tokens=use.read,
            written_tokens=use.written,
            redundant_tokens=use.redundant,
            gate_waits=use.waited > 0,
            gate_waited_ms=round(use.waited * 1000),
            unpriced_prompts=use.redundant_usd is None or use.saved_usd is None,
        )
        if use.miss_reason:
            self._add(**{MISSED.get(use.miss_reason, MISSED[OTHER]): 1})
        self.usd[USD["redundant"]] += use.redundant_usd or FREE
        self.usd[USD["gate"]] += use.saved_usd or FREE

    def sent(self, number: int) -> None:
        """Requests to upstream; fewer than none: they never left."""
        self._add(upstream_calls=number)

    def took_back(self) -> None:
        """A failure, in whose place another attempt is made."""
        self._add(error=-1)

    def _add(self, **figures: int) -> None:
        for name, number in figures.items():
            self.figures[AT[name]] += number
