"""How long a prefix that was written cannot be read yet: learned of what ``usage`` says about those who came after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# Waited once it is known that there is a lag, of which nothing else is known: what was reported to cure it is 2 s.
FIRST: Final = 1.95
LONGEST: Final = 10.0
# Each read that had waited shows that a little less may do; a write, that it was too little, and more than one in a row
# that it was much too little.
LESS, MORE, MUCH_MORE = 0.99, 1.1, 2.0
# After so many that waited one does not, to see whether it must: more rarely where it must, up to so many.
PROBE_AFTER, RARER, RAREST = 2.0, 1.5, 24.0
# So many such probes in a row that are read: there is no lag any more.
GONE: Final = 3
# So many in a row that had waited in vain: it is no lag. So many failures later it is tried again.
VAIN, NUMB = 5, 20
# What of its settle a call must have waited to say something about that.
WAITED, PROBED = 0.9, 0.5
# Who comes so much later by itself says nothing about a lag.
SOON: Final = 1.0
FADES: Final = 0.9
FORGOTTEN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Lag:
    """``settle``: seconds to wait; 0: there is no lag, as far as is known. ``waits``: of those that waited, how many
    have read since the last probe, which comes after ``every``. ``good``: probes in a row that have read. ``tries``:
    of late, calls that did not wait, ``fails`` of which wrote again. ``vain``: writes in a row in spite of waiting.
    """

    settle: float = 0.0
    waits: int = 0
    every: float = PROBE_AFTER
    good: int = 0
    tries: float = 0.0
    fails: float = 0.0
    vain: int = 0

    @property
    def is_known(self) -> bool:
        """Whether any was ever met, of late."""
        return self.tries > 0

    @property
    def probes(self) -> bool:
        """Whether the next write is to be read at once by one, to see whether it can."""
        return self.settle > 0 and self.waits >= self.every

    @property
    def chance(self) -> float:
        """That who does not wait writes again, from 0 to 1."""
        return self.fails / self.tries if self.tries else 0.0

    def after(self, gap: float, *, read: bool) -> Lag:
        """``gap``: seconds from the write to the call of who has ``read`` it, or written it again."""
        if gap > (self.settle + SOON if read else LONGEST + SOON):
            return self
        if self.settle and gap >= WAITED * self.settle:
            return self._waited(read=read)
        tried = replace(self, tries=FADES * self.tries + 1, fails=FADES * self.fails + (not read))
        if not self.settle and not read:
            return tried._met()
        if not self.settle:
            return NO_LAG if tried.fails < FORGOTTEN else tried
        return tried._probed(read=read) if gap < PROBED * self.settle else tried

    def _waited(self, *, read: bool) -> Lag:
        if read:
            return replace(self, settle=self.settle * LESS, waits=self.waits + 1, vain=0)
        if self.vain + 1 >= VAIN:
            return replace(self, settle=0.0, waits=0, vain=VAIN)
        more = MUCH_MORE if self.vain else MORE
        return replace(self, settle=min(self.settle * more, LONGEST), vain=self.vain + 1)

    def _met(self) -> Lag:
        if VAIN <= self.vain < VAIN + NUMB:
            return replace(self, vain=self.vain + 1)
        return replace(self, settle=FIRST, waits=0, every=PROBE_AFTER, good=0, vain=0)

    def _probed(self, *, read: bool) -> Lag:
        if not read:
            return replace(self, waits=0, good=0, every=min(self.every * RARER, RAREST))
        if self.good + 1 >= GONE:
            return replace(self, settle=0.0, waits=0, good=0)
        return replace(self, waits=0, good=self.good + 1)


NO_LAG: Final = Lag()
