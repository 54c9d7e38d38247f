"""The frozen dataclasses that cross rooms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, Protocol

from aicache.core.fingerprint import Question
from aicache.core.policy import Policy
from aicache.core.prefix import Prompt
from aicache.core.tags import Tag, of_answer
from aicache.core.usage import PromptUse

Status = Literal["hit", "stale", "semantic", "coalesced", "miss", "bypass", "unscoped", "degraded", "error"]

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stamps:
    """How the tags of a question stood at one moment: what an answer that is asked for afterwards depends on.

    ``values``: one for each tag, in the order of the ask's. ``epoch``: whose memory they were found in.
    ``generations``: for each of what ``Ask.counted`` gives, how often the database says that it was invalidated; None
    where nobody asked.
    """

    values: tuple[str, ...] = ()
    generations: tuple[int, ...] | None = None
    epoch: str = ""

    def stand(self, now: Stamps) -> bool:
        """Whether what was made under these is good under those that stand now."""
        return self.values == now.values and self.epoch == now.epoch

    @property
    def mark(self) -> bytes:
        """16 bytes that are equal where the values and the epoch are."""
        return hashlib.sha256(" ".join((self.epoch, *self.values)).encode()).digest()[:16]

    @property
    def flight(self) -> str:
        """Names the call for which these were taken: who took others neither shares it nor waits for it."""
        counted = "" if self.generations is None else repr(self.generations)
        return hashlib.sha256(self.mark + counted.encode()).hexdigest()[:32]

    def changed(self, tags: Sequence[Tag], now: Sequence[str | None]) -> str | None:
        """The tag that was given another stamp since; None where none was, or where one is merely lost."""
        for tag, then, value in zip(tags, self.values, now, strict=False):
            if value is not None and value != then:
                return tag.shown
        return None

    def outrun(self, tags: Sequence[Tag], generations: Sequence[int]) -> str | None:
        """The tag that the database has seen invalidated since. Only where both sides counted."""
        for tag, then, now in zip(tags, self.generations or (), generations, strict=False):
            if now != then:
                return tag.shown
        return None


NO_STAMPS: Final = Stamps()


@dataclass(frozen=True, slots=True)
class Ask:
    """One caller's question to the cache.

    ``tenant`` is a digest, ``owner`` the same for people. ``tags``: what its answer hangs on. ``sources``: label and
    version of each row that it is made from. ``patience``: seconds for which the caller is ready to wait for somebody
    else's call. ``timeout``: what the caller allows its own upstream call, None for no limit. ``attempt``: how often
    the SDK has retried this call. ``credential``: a digest of what the request is authorised with. ``model``: the
    model that is asked, "" where that is not said. ``body``: the request's, where it is to be kept with the answer;
    ``circumstances``: what else of its scope is in the key, as JSON has it.
    ``streams``: the answer is wanted as a stream of events; ``live``: while it is made, too, as the request offers no
    tools that another caller of the same answer must not run. ``prompt``: the request as the
    provider's prompt cache sees it.
    """

    key: str
    lineage: str
    tenant: str
    policy: Policy
    refresh: bool = False
    credential: str = ""
    attempt: int = 0
    timeout: float | None = None
    patience: float = float("inf")
    tags: tuple[Tag, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    model: str = ""
    body: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    circumstances: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    streams: bool = False
    live: bool = False
    prompt: Prompt | None = field(default=None, compare=False, repr=False)

    @property
    def counted(self) -> tuple[Tag, ...]:
        """What ends a copy of its answer: its tags, and last the tag of this very answer, which only a purge names."""
        return (*self.tags, of_answer(self.lineage, self.key, self.tenant))


@dataclass(frozen=True, slots=True)
class Pin:
    """A question that is asked under an idempotency key: ``name``, as its caller chose it."""

    name: str
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class Answer:
    """What upstream answered, ready to be kept: a complete body, decoded, and the headers that are worth repeating.

    ``events``: where it was streamed, the body as it came, without pings. ``body`` is then what a plain answer would
    have been, b"" where nobody can tell.
    ``usd``: what it cost, None where no price is known. ``premium``: how much of that was for writing the provider's
    prompt cache, beyond what the same tokens cost unwritten. ``tokens``: all that upstream counted, in and out.
    ``traits``: what not every policy accepts in it.
    """

    body: bytes
    headers: Headers = ()
    usd: Decimal | None = None
    premium: Decimal = Decimal(0)
    tokens: int = 0
    traits: frozenset[str] = frozenset()
    events: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it takes up, in both forms."""
        return len(self.body) + len(self.events)


@dataclass(frozen=True, slots=True)
class Failure:
    """An upstream call that failed, ready to be raised again by those who waited for it.

    ``kind``: ``status`` (upstream answered with an error), ``connection`` or ``timeout``. ``attempt``, ``credential``
    and ``timeout`` are those of the call that failed; they say whom it concerns.
    """

    kind: Literal["status", "connection", "timeout"]
    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    attempt: int = 0
    credential: str = ""
    timeout: float | None = None

    def concerns(self, ask: Ask) -> bool:
        """Whether this would have happened to another caller's own call too."""
        if self.kind == "timeout":  # who allows more time may see the answer come
            return self.timeout is not None and ask.timeout is not None and ask.timeout <= self.timeout
        return self.status not in CREDENTIAL_STATUSES or self.credential == ask.credential


class Upstream(Protocol):
    """The body of a stream that has been opened, as it comes."""

    def pull(self) -> Any:
        """The next bytes, decoded; None at the end. To be awaited where the caller's client is async."""

    def close(self) -> Any:
        """Lets go of the connection, read to the end or not. Likewise."""

    def taken(self) -> Any:
        """The response that it is the body of, once: for who gives it to the caller."""

    def interrupt(self) -> None:
        """Ends a ``pull`` that is under way in another thread, with an error, where that can be."""

    def is_timeout(self, error: Exception) -> bool:
        """Whether that is what an error of ``pull`` means."""

    def answer(self, body: bytes, events: bytes, message: Any) -> Answer:
        """What it came to, in both forms, with its price."""

    def over(self) -> None:
        """Nobody reads any more of it, whether it came to an ``answer`` or not."""

    def whole(self, recording: Any, error: Exception | None) -> Any:
        """Called: the plain answer that a stream comes to which its caller did not ask for, or how that failed; None
        where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An upstream call that is answered by a stream, which is still to be read. ``headers``: those worth repeating.
    ``is_events``: the server-sent ones that can be recorded."""

    ask: Ask
    upstream: Upstream
    headers: Headers = ()
    is_events: bool = True


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream that did not come to its end. ``has_failed``: by a fault that its caller meets; else ``reason`` says."""

    has_failed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """How a caller's own upstream call ended. ``raw`` is what to give the caller, opaque here; ``message`` the answer's
    parsed body, None where it is no JSON. ``size``: bytes that the answer had, kept or not. ``use``: of the provider's
    prompt cache, None where the request has nothing to do with it."""

    raw: Any
    outcome: Answer | Failure | Opened | Broken
    message: Any = None
    size: int = 0
    use: PromptUse | None = None


# Errors that say something about who asks: bad key, unpaid bill, no right to the model, own rate limit.
CREDENTIAL_STATUSES = frozenset({401, 402, 403, 404, 429})


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer. Times are unix seconds. ``stamps``: those that stood before upstream was called."""

    key: str
    tenant: str
    answer: Answer
    stored_at: float
    fresh_until: float
    dies_at: float
    stamps: Stamps = NO_STAMPS


class Before(NamedTuple):
    """The answer that stood before one that was missed, as far as is known. ``died``: the tag, or the row, that it was
    invalidated by, "" where it was not. ``late``: seconds for which it had expired, 0 where it had not."""

    died: str = ""
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """How one attempt of a call ended: with exactly one status.

    ``own``: how the caller's own upstream call ended, where it made one. ``entry``: the answer as it is stored or was
    shared; on a miss, the one just stored. ``failure``: what somebody else's call met. ``now``: unix seconds.
    ``waited``: seconds. ``headers``: where the caller reads somebody else's stream as it comes, that one's. ``before``:
    on a miss, the answer in whose place another was made; None where none is known.
    """

    status: Status
    reason: str = ""
    own: Called | None = None
    entry: Entry | None = None
    failure: Failure | None = None
    now: float = 0.0
    waited: float = 0.0
    stored: bool = False
    headers: Headers | None = None
    before: Before | None = None

    @property
    def given(self) -> Entry:
        """The entry that answers a caller who made no call of its own."""
        if self.entry is None:
            raise LookupError(f"{self.status}: there is no entry to answer with")
        return self.entry
