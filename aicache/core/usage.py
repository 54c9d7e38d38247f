"""What an answer says of the provider's prompt cache, and what was paid twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

# Counts of one prefix differ by no more.
TOLERANCE: Final = 0.05
# No answer has so many tokens. What says so would fill a column of the ledger's, and nothing else were counted there.
ABSURD: Final = 10**9

READ, WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"

State = Literal["lead", "wait", "open", "off"]


@dataclass(frozen=True, slots=True)
class PromptUse:
    """What one upstream call did at the provider's prompt cache, and at the gate before it.

    ``state``: at the gate, where it had to wait ``waited`` seconds. ``read``, ``written``: tokens, as upstream counted
    them; of the latter, ``redundant`` were of a prefix that lived, and cost ``redundant_usd`` more than reading them.
    ``saved_usd``: what the waiting saved. Both are None where no price is known. ``miss_reason``: the provider's own.
    ``prefix``: digest of the longest that the request has.
    """

    model: str
    state: State = "off"
    waited: float = 0.0
    read: int = 0
    written: int = 0
    redundant: int = 0
    redundant_usd: Decimal | None = Decimal(0)
    saved_usd: Decimal | None = Decimal(0)
    miss_reason: str = ""
    prefix: str = ""


class Books(Protocol):
    """What the gate asks of who keeps the money. Nothing in here raises."""

    def worth(self, model: str, tokens: int, life: float) -> Decimal | None:
        """About what it costs to write so many tokens for a ``life`` in seconds, beyond reading them; None where that
        is not known."""

    def rewriting(self, message: Any, tokens: int, life: float, *, read: bool) -> Decimal | None:
        """The same of tokens that an answer says that it has ``read``, or else written."""

    def cost(self, message: Any) -> Decimal | None:
        """What upstream charged for an answer."""

    def note(self, use: PromptUse) -> None:
        """Counts it, as one call."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that upstream counted: ``read`` from the prompt cache, ``written`` to it."""

    read: int
    written: int

    @property
    def total(self) -> int:
        """Of the whole prefix, up to its last breakpoint."""
        return self.read + self.written

    @classmethod
    def of(cls, message: Any) -> Usage | None:
        """None where the message does not say."""
        usage = message.get("usage") if isinstance(message, Mapping) else None
        if not isinstance(usage, Mapping) or not (READ in usage or WRITTEN in usage):
            return None
        return cls(counted(usage.get(READ)), counted(usage.get(WRITTEN)))


@dataclass(frozen=True, slots=True)
class Living:
    """A prefix that was written, and lives. ``at``: which one of the prompt's. ``age``: seconds since it was written.

    ``tokens``: as upstream counted them, where ``is_exact``. ``is_read``: somebody has read it. ``is_written``: who
    wrote it has said so; else only who read it.
    """

    at: int
    age: float
    tokens: int
    is_exact: bool
    is_read: bool
    is_written: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of a prefix ``at`` a breakpoint. No ``tokens``: it is too short to be kept. ``is_written``: or
    else it was read."""

    at: int
    life: float
    tokens: int
    is_exact: bool
    is_written: bool = True


def redundant(usage: Usage, lived: Sequence[Living]) -> int:
    """How many of the tokens that were written had been written by others, who have said so, and lived.

    ``lived``: of the prefixes of the request, the shortest first. Who read one may have said so before who wrote it,
    whose answer took longer; and who wrote one may have written no more than its end.
    """
    if not usage.written:
        return 0
    again, before = 0, usage.read
    for at in range(_beyond(usage, lived), len(lived)):
        # A length that is a guess is no more than one that is known of a longer prefix.
        tokens = min(found.tokens for found in lived[at:] if found.is_exact or found is lived[at])
        if lived[at].is_written:
            again += max(tokens - before, 0)
        before = max(tokens, before)
    return min(again, usage.written)


def _beyond(usage: Usage, lived: Sequence[Living]) -> int:
    """From which on they were not read. What was read is one of them, whose length may be a guess."""
    if not usage.read:
        return 0
    covered = [at for at, found in enumerate(lived) if found.is_exact and was_read(usage, found)]
    beyond = covered[-1] + 1 if covered else 0
    if covered and usage.read <= lived[covered[-1]].tokens * (1 + TOLERANCE):
        return beyond
    guesses = [at for at, found in enumerate(lived) if not found.is_exact and at >= beyond]
    nearest = min(guesses, key=lambda at: abs(lived[at].tokens - usage.read), default=beyond - 1)
    return max(nearest + 1, beyond)


def was_read(usage: Usage, living: Living) -> bool:
    if not living.is_exact:  # of several that one request wrote, only the longest is counted
        return usage.read > 0
    return usage.read >= living.tokens * (1 - TOLERANCE)


def miss_reason(message: Any) -> str:
    """Why the provider says that it found no more of the prefix; "" where it does not say."""
    said: Any = message
    for name in ("diagnostics", "cache_miss_reason", "type"):
        said = said.get(name) if isinstance(said, Mapping) else None
    return said if isinstance(said, str) else ""


def counted(said: Any) -> int:
    """So many tokens, as upstream said it; none where that is no such number."""
    return said if type(said) is int and 0 < said < ABSURD else 0
