"""A request as the provider's prompt cache sees it: its prefixes, how long they are, and who may share them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableSet, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from aicache.core.breakpoints import blocks_of, breakpoints, placed
from aicache.core.fingerprint import Unkeyable, canonical, meaning
from aicache.core.policy import Policy
from aicache.core.terms import Terms
from aicache.core.usage import TOLERANCE, Books, Mark, Usage

# Fields of the body that part no prefixes: what comes after them, or how the answer is made. Any other field does.
NO_PART: Final[Mapping[str, str]] = {
    "tools": "its blocks",
    "system": "its blocks",
    "messages": "its blocks",
    "max_tokens": "of the answer",
    "stop_sequences": "of the answer",
    "temperature": "of the answer",
    "top_p": "of the answer",
    "top_k": "of the answer",
}
# How many blocks before a breakpoint the provider still finds what somebody wrote there: it looks at 20, of which the
# breakpoint's own is the first.
LOOK_BACK: Final = 19
# The least tokens that a prefix needs, by what the model's name has in it; the longest that fits counts. Of the others
# nobody waits for less than the least of all, and what ``usage`` says counts for any.
MINIMUMS: Final[Mapping[str, int]] = {
    "fable-5": 512,
    "mythos-5": 512,
    "mythos-preview": 2048,
    "opus-5": 512,
    "sonnet-5": 1024,
    "opus-4-8": 1024,
    "opus-4-7": 2048,
    "opus-4-6": 4096,
    "opus-4-5": 4096,
    "opus-4": 1024,
    "sonnet-4": 1024,
    "haiku-4-5": 4096,
    "haiku-3": 2048,
    "3-7-sonnet": 1024,
    "3-5-sonnet": 1024,
    "3-opus": 1024,
    "3-5-haiku": 2048,
    "3-haiku": 2048,
}
LEAST: Final = 512
# To look at more takes longer than an event loop may stand still.
MOST_BLOCKS: Final = 2000
# Tokens are estimated, and rather as too many: what turns out not to be kept is not waited for again.
DOUBT: Final = 0.75
BYTES_A_TOKEN: Final = 4
# An image or a page has about so many, however many bytes it is.
TOKENS_OF_DATA: Final = 1500


@dataclass(frozen=True, slots=True)
class Prefix:
    """``digest``: equal exactly where one may be read in place of the other. ``tokens``: about so many. ``life``: in
    seconds, once it is written; None where it ends at no breakpoint, and can only be read."""

    digest: str
    tokens: int
    life: float | None


@dataclass(frozen=True, slots=True)
class Manner:
    """How its call is made. ``forms``: in which it may be where others wait for it; what upstream turns out not to take
    is taken out of it. ``timeout``: seconds that its caller gives it. ``waited``: seconds before earlier attempts."""

    forms: MutableSet[Any]
    timeout: float | None = None
    waited: float = 0.0


class Prompt:
    """``scope``: gives what parts the prefixes of equal requests, such as the workspace; first where it is sent.

    All that takes time is done when it is asked for, and once: a call that is answered by the cache asks for nothing.
    """

    def __init__(
        self, body: Mapping[str, Any], scope: Callable[[], Sequence[str]], policy: Policy, books: Books, manner: Manner
    ) -> None:
        self.given = body
        self.policy = policy
        self.books = books
        self.forms, self.timeout, self.waited = manner.forms, manner.timeout, manner.waited
        self._scope_of = scope
        self._root = ""

    @property
    def model(self) -> str:
        return model if isinstance(model := self.given.get("model"), str) else ""

    @cached_property
    def _scope(self) -> list[str]:
        return list(self._scope_of())

    @cached_property
    def terms(self) -> Terms:
        return self.policy.terms

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """The request's, as it goes out."""
        return placed(self.given) if self.policy.auto_prompt_cache else self.given

    @cached_property
    def lag_of(self) -> str:
        """Digest of that whose visibility lag is one."""
        return _digest(canonical(["lag", self._scope[0], self.model]))

    @cached_property
    def prefixes(self) -> tuple[Prefix, ...]:
        """Those that may be read, the shortest first: at each breakpoint, and so many blocks before each. None where
        nothing is marked, or the body is no JSON."""
        try:
            return tuple(self._prefixes())
        except (Unkeyable, RecursionError):
            return ()

    @property
    def root(self) -> str:
        """The same for all prefixes that may be another's beginning."""
        return self._root if self.prefixes else ""

    @property
    def worth_waiting(self) -> list[int]:
        """Those of the prefixes that are written, and probably long enough to be kept."""
        least = DOUBT * minimum(self.model)
        return [at for at, found in enumerate(self.prefixes) if found.life is not None and found.tokens >= least]

    def marks(self, usage: Usage) -> list[Mark]:
        """What is known of its breakpoints once it was answered so."""
        at = [place for place, found in enumerate(self.prefixes) if found.life is not None]
        if not at:
            return []
        *others, last = at
        whole = self.prefixes[last]
        marks = [Mark(last, whole.life or 0.0, usage.total, is_exact=True, is_written=usage.written > 0)]
        for place in others:
            found = self.prefixes[place]
            tokens = round(found.tokens * usage.total / max(whole.tokens, 1))
            if tokens < minimum(self.model):  # nor is it kept by itself
                tokens = 0
            is_written = tokens > usage.read * (1 + TOLERANCE)
            marks.append(Mark(place, found.life or 0.0, tokens, is_exact=False, is_written=is_written))
        return marks

    def guesses(self) -> list[Mark]:
        """What is known of them once it was answered, and the answer does not say."""
        found = ((place, self.prefixes[place]) for place in self.worth_waiting)
        return [Mark(place, prefix.life or 0.0, prefix.tokens, is_exact=False) for place, prefix in found]

    def _prefixes(self) -> list[Prefix]:
        body = self.body
        blocks = blocks_of(body)
        marks = {mark.position: mark.life for mark in breakpoints(body, blocks)}
        if not marks or len(blocks) > MOST_BLOCKS:
            return []
        wanted = {mark - back for mark in marks for back in range(LOOK_BACK + 1)}
        meant = meaning(body)
        chain = hashlib.sha256(canonical([self._scope, _apart(meant)]))
        found, tokens = [], 0
        for position, (place, block) in enumerate(blocks_of(meant)):
            text = canonical([place, block])
            chain.update(hashlib.sha256(text).digest())
            if not position:
                self._root = chain.hexdigest()[:32]
            tokens += tokens_of(block, text)
            if position in wanted:
                found.append(Prefix(chain.hexdigest()[:32], tokens, marks.get(position)))
            if position == max(marks):
                break
        return found


def minimum(model: str) -> int:
    """Tokens that a prefix needs to be kept by this model."""
    fitting = [name for name in MINIMUMS if name in model]
    return MINIMUMS[max(fitting, key=len)] if fitting else LEAST


def tokens_of(block: Any, text: bytes) -> int:
    """About so many; ``text`` is the block as JSON."""
    if isinstance(block, Mapping) and block.get("type") == "text" and isinstance(said := block.get("text"), str):
        return -(-len(said.encode("utf-8", "replace")) // BYTES_A_TOKEN)
    data = [len(one) for one in _data(block)]
    return -(-(len(text) - sum(data)) // BYTES_A_TOKEN) + TOKENS_OF_DATA * len(data)


def _apart(meant: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meant.items() if name not in NO_PART}


def _data(block: Any) -> list[str]:
    """What is in there as base64."""
    if isinstance(block, list | tuple):
        return [data for part in block for data in _data(part)]
    if not isinstance(block, Mapping):
        return []
    if block.get("type") == "base64" and isinstance(data := block.get("data"), str):
        return [data]
    return [data for part in block.values() for data in _data(part)]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
