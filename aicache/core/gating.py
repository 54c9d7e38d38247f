"""What a flow may ask for at the prompt-cache gate: who writes a prefix, who waits until it can be read."""

from __future__ import annotations

from dataclasses import dataclass

from aicache.core.lag import NO_LAG, Lag
from aicache.core.prefix import Prompt
from aicache.core.records import Upstream
from aicache.core.turns import Held, Led
from aicache.core.usage import Living, Mark


@dataclass(frozen=True, slots=True)
class Approach:
    """Comes to the gate, and becomes the one who writes what nobody has written, unless somebody is at it. → Way, or
    Unavailable. ``waits``: where somebody is, the caller is going to Stay."""

    prompt: Prompt
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """``living``: the longest of the prompt's prefixes that lives, if any. ``led``: the caller is the one who writes
    the rest; or ``held``: somebody is, and at the prefix ``held_at``. Neither: nothing is left to be written that
    anybody would wait for.

    ``is_on``: False while the fleet is switched off.
    """

    living: Living | None = None
    led: Led | None = None
    held: Held | None = None
    held_at: int = 0
    lag: Lag = NO_LAG
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class Stay:
    """Waits for the one with ``token``, at most ``seconds``. → News, or Unavailable; BROKE_OFF where its call failed,
    NOT_SHARED where the wait itself would keep it from its end."""

    prompt: Prompt
    token: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Scout:
    """Becomes the one who tries whether a prefix that was just written can be read. → bool, or Unavailable."""

    prompt: Prompt
    at: int


@dataclass(frozen=True, slots=True)
class Note:
    """Remembers what a call has written and read, and lets those go who wait for it. → tuple of Living: those of the
    prompt's prefixes that lived before, the shortest first, None while the fleet is switched off; or Unavailable.

    ``marks``: what it has written, or read. ``read``: so many tokens. ``token``: its lease at the gate, "" where it has
    none.
    """

    prompt: Prompt
    marks: tuple[Mark, ...]
    read: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class Observe:
    """Learns from who came ``gap`` seconds after the prefix ``at`` was written, and has ``read`` it, or written it
    again. Only the first to say so counts. → None, or Unavailable."""

    prompt: Prompt
    at: int
    gap: float
    read: bool


@dataclass(frozen=True, slots=True)
class Quit:
    """Lets go of a lease at the gate: the next one leads. ``has_failed``: upstream did; else its caller left. → None,
    or Unavailable."""

    prompt: Prompt
    token: str
    has_failed: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """→ None, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Shut:
    """Lets go of a stream that was read in here. → None. Never fails."""

    upstream: Upstream


AtGate = Approach | Scout | Note | Observe | Quit
"""What is asked of the store, and answered at once."""

Gating = AtGate | Stay | Sleep | Shut
