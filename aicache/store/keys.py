"""Where a key is spelled, and nowhere else.

    aicache:<site>:<tenant digest>:{<lineage>}:e:<key>    an entry
                                              :w:<key>    the lease of who works on it, with the ears of who waits
                                              :f:<key>    how the last call failed, for a moment
                                              :l          the lineage: what was last stored for this question
    aicache:<site>:switch                                 "off" while the fleet is switched off
    aicache:<site>:ear:<id>                               the channel on which one process hears

All keys of a question share one hash tag, so that they live on one slot of a cluster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from aicache.core.records import Ask


def digest(kind: str, name: str) -> str:
    """A fixed-length stand-in for a name that users choose; equal names of other kinds get another one."""
    return hashlib.sha256(f"{kind}\0{name}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Keys:
    """``site`` keeps sites, and generations of one site, apart that share a server."""

    site: str

    def _question(self, ask: Ask) -> str:
        return f"aicache:{self.site}:{ask.tenant}:{{{ask.lineage}}}"

    def entry(self, ask: Ask) -> str:
        return f"{self._question(ask)}:e:{ask.key}"

    def lease(self, ask: Ask) -> str:
        return f"{self._question(ask)}:w:{ask.key}"

    def failed(self, ask: Ask) -> str:
        return f"{self._question(ask)}:f:{ask.key}"

    def lineage(self, ask: Ask) -> str:
        return f"{self._question(ask)}:l"

    @property
    def switch(self) -> str:
        return f"aicache:{self.site}:switch"

    def ear(self, process: str) -> str:
        return f"aicache:{self.site}:ear:{process}"
