"""What a flow may ask for of which the answer is a stream: its own, or one that somebody else has under way."""

from __future__ import annotations

from dataclasses import dataclass

from aicache.core.live import Ended, How, Live
from aicache.core.records import Ask, Served, Stamps, Upstream


class Left(Exception):
    """Thrown into a flow at Begin, Give, Pull or Tail: its caller reads no more."""


@dataclass(frozen=True, slots=True)
class Share:
    """Lets others know of a stream that its leader is about to read, and ``aloud``, read it too as it comes. → Live,
    for the leader to open. Never fails."""

    ask: Ask
    stamps: Stamps
    token: str
    aloud: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Lets go of the lease where nobody waits for its holder's stream. → whether somebody does; or Unavailable."""

    ask: Ask
    stamps: Stamps
    token: str


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Reads somebody else's stream no more. → None. Never fails."""

    ask: Ask
    stamps: Stamps
    token: str
    live: Live


@dataclass(frozen=True, slots=True)
class Begin:
    """Hands to the caller what there is so far; the flow then goes on as the caller reads, or others who depend on
    ``live`` need it. → None.

    ``leave``: says whether they do, where the flow cannot be asked as it waits for upstream; None: nobody does.
    ``drains``: it goes on in any case.
    """

    served: Served
    live: Live
    leave: Leave | None = None
    drains: bool = False


@dataclass(frozen=True, slots=True)
class Give:
    """Hands the next bytes to the caller. → None."""

    piece: bytes


@dataclass(frozen=True, slots=True)
class Withhold:
    """Hands bytes to the caller when the flow has ended: who has them finds everything done. → None."""

    piece: bytes


@dataclass(frozen=True, slots=True)
class Pull:
    """The next bytes of one's own stream. → bytes, None at its end; raises what upstream does."""

    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Outgrow:
    """Keeps those away who come from now on, and lets those go who wait for the whole: it will not be kept. → None.
    Never fails, and waits for nobody."""

    ask: Ask
    stamps: Stamps
    token: str


@dataclass(frozen=True, slots=True)
class Tail:
    """Waits a moment for what somebody else's stream has from ``at`` on. → bytes, Last, or None: nothing yet."""

    live: Live
    at: int


@dataclass(frozen=True, slots=True)
class Check:
    """Looks whether the leader with ``token`` is still at it, and for what was missed. → None; or Unavailable."""

    ask: Ask
    stamps: Stamps
    token: str
    live: Live


@dataclass(frozen=True, slots=True)
class Ending:
    """How a leader's stream ended, for those who follow it: ``tail`` is what ``live`` has not."""

    how: How
    live: Live
    tail: bytes = b""

    @property
    def ended(self) -> Ended:
        return Ended(self.how)


Streaming = Share | Leave | Unfollow | Begin | Give | Withhold | Pull | Outgrow | Tail | Check
