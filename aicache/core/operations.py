"""What a flow may ask for. Each operation says what is sent back; those marked so may raise Unavailable instead."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

from aicache.core.gating import Gating
from aicache.core.life import Life
from aicache.core.policy import Policy
from aicache.core.records import NO_STAMPS, Ask, Before, Entry, Failure, Pin, Stamps
from aicache.core.streaming import Ending, Streaming
from aicache.core.tags import Tag
from aicache.core.turns import Led

Form = Literal["own", "stream", "prewarm"]


class Unavailable(Exception):
    """The store cannot do it now. The message is one machine-readable word."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found. ``reason``: why there is no entry; ``before``: of one that stood. ``enabled``: the fleet's
    switch.

    ``stamps``: how the tags stand; None where some have no stamp, so that no answer can hang on them.
    """

    entry: Entry | None
    stamps: Stamps | None
    reason: str = ""
    enabled: bool = True
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """One round trip for all that decides about a hit: an entry that was made under other stamps is none.

    → Seen, or Unavailable.
    """

    ask: Ask


@dataclass(frozen=True, slots=True)
class Capture:
    """Takes the stamps of all tags, and draws those that are missing. → Stamps, or Unavailable."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Count:
    """How often the database has seen each tag invalidated, committed ones only. → tuple of int, or Unavailable."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """Before upstream is called: what the database has to say of a question. → Recalled, or Unavailable.

    ``copy``: its copy of an answer too, where one lives.
    """

    ask: Ask
    copy: bool


@dataclass(frozen=True, slots=True)
class Recalled:
    """``counted``: how often each of ``ask.counted`` was invalidated; None where no copies are kept. ``entry``: a copy
    that was made under the same counts, and has not expired. ``reason``: why there is none, "" where that is not known;
    ``before``: of one that stood.
    """

    counted: tuple[int, ...] | None = None
    entry: Entry | None = None
    reason: str = ""
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """Has a copy of an entry kept in the database, when its caller has long had the answer. → None."""

    ask: Ask
    entry: Entry


@dataclass(frozen=True, slots=True)
class Claim:
    """Becomes the one who calls under an idempotency key. → Claimed | Pinned | Busy; raises Unavailable, and
    IdempotencyConflict where the key is another request's."""

    pin: Pin


@dataclass(frozen=True, slots=True)
class Claimed:
    """The caller is the one. ``led``: its proof, None where nobody can be kept from calling too: its claim could not be
    written. ``counted``: as in Recalled, before anything was called."""

    led: Led | None
    counted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pinned:
    """What was answered under the key, and lives."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody is at it, by that ``token``. ``here``: in this process, whose waiters hear when that ends."""

    token: str
    here: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Lets a moment pass, or what is left of it when the other ends, where that is heard. → None.

    Raises Unavailable where that would keep the other from its end.
    """

    seconds: float
    busy: Busy
    ask: Ask


@dataclass(frozen=True, slots=True)
class Settle:
    """Pins an answer to the key, or without one lets go of it. → None. What cannot be done now is done later."""

    pin: Pin
    claimed: Claimed
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Lead:
    """Becomes the leader, unless somebody is or an answer has come. → Entry | Failure | Held | Led, or Unavailable;
    NOT_SHARED where somebody is whose answer has become too large for others.

    ``stamps``: those that the caller has taken; leaders and entries with others are not seen. ``since``: seconds since
    the caller began; an earlier failure than that is none of its business. ``refresh``: an entry that stands is no
    answer. ``waits``: where somebody else leads, the caller is going to Wait.
    """

    ask: Ask
    stamps: Stamps
    since: float
    refresh: bool = False
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits for the leader with ``token``, at most ``seconds``. → Entry | Failure | News, or Unavailable; where the ask
    is live, Live as soon as there is something to read.

    NOT_SHARED too where the wait itself would keep the leader from its end. ``stamps``: those of the Lead.
    """

    ask: Ask
    token: str
    seconds: float
    stamps: Stamps = NO_STAMPS


@dataclass(frozen=True, slots=True)
class Call:
    """Calls upstream. → Called; raises what the call raises. ``leads``: the question whose other askers wait for it.

    ``form``: as its caller made it; or a plain call as a stream, which is then Opened; or first with ``max_tokens: 0``.
    ``gate``: the token by which others wait at the prompt-cache gate.
    """

    leads: Ask | None = None
    form: Form = "own"
    gate: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """``now``: unix seconds. ``life``: that of an answer kept when it was asked for."""

    now: float
    life: Life


@dataclass(frozen=True, slots=True)
class Now:
    """What time it is, and how long an answer lives that is kept now, or was at ``kept_at`` (unix time). → Moment."""

    policy: Policy
    kept_at: float | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Ends the leader's flight: stores, tells the waiters, frees the lease.

    → whether an entry that was to be kept could be; or Unavailable. It cannot be where the lease is another's by now
    (then nobody is told either), or where a tag died during the call (then only those are told who began before). One
    of: an entry (``share``: give it to the waiters; ``keep``: store it too), a failure, or neither: abandoned, so that
    one of the waiters leads next; or ``alone``, a trouble of the leader's own, with which they would only queue up.
    ``told`` False: the waiters are not given the entry, but look for it themselves, as it may be old. ``ending``: how a
    stream ended, for those who read it as it came.
    """

    ask: Ask
    stamps: Stamps
    token: str
    entry: Entry | None = None
    keep: bool = False
    share: bool = False
    failure: Failure | None = None
    alone: bool = False
    told: bool = True
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Elapsed:
    """→ seconds since the flow began."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Runs another flow in the background, for the same question; its errors are logged there. → whether it runs."""

    flow: Flow
    ask: Ask


Durably = Count | Recall | Claim | Settle
"""What is asked of the database, apart from the caller's connection."""

Flying = Look | Capture | Lead | Wait | Call | Finish | Keep | Pause | Now | Elapsed | Spawn

Operation = Flying | Durably | Streaming | Gating
Flow = Generator[Operation, Any, Any]
