"""The provider's prompt cache, modelled: which prefixes a request read, and which it paid to write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aicache.testing.prompt import Breakpoint, Life, Prompt

SECONDS: dict[Life, float] = {"5m": 300.0, "1h": 3600.0}

LOOK_BACK = 20
"""How many blocks before a breakpoint a prefix that somebody wrote is still found. The API's number."""

MINIMUM = 1024
"""Tokens. The API's varies by model from 512 to 4,096; this is the commonest."""


@dataclass
class Entry:
    life: float
    readable_at: float
    expires_at: float


@dataclass(frozen=True)
class Visit:
    """One request at the cache: what it found when it arrived, and what it leaves once it is answered."""

    read: int
    written: dict[Life, int]
    total: int
    begun: Callable[[], None] = field(repr=False)
    """To be called when the response begins: from then (and the cache's lag) on, what this request
    writes can be read, and what it read lives its life again. Never called: it wrote nothing."""

    @property
    def usage(self) -> dict[str, Any]:
        """The input side of the API's usage: the three counts add up to the whole prompt."""
        written = sum(self.written.values())
        return {
            "input_tokens": self.total - self.read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written["5m"],
                "ephemeral_1h_input_tokens": self.written["1h"],
            },
        }


class PromptCache:
    """- A request reads the longest prefix that ends at one of its breakpoints, or at most 20 blocks
      before one, and that an earlier request wrote *at a breakpoint of its own*.
    - It pays for writing everything from there to its last breakpoint, each part at the life of the
      breakpoint that closes it.
    - What is being written by somebody else cannot be read yet: both pay.
    - The life of a prefix begins anew whenever it is read or written again.
    - Prefixes below the minimum are neither read nor written, and nobody is told.
    """

    minimum: int
    """Tokens that a prefix needs; 0: any prefix will do."""

    lag: float | Callable[[], float]
    """Seconds from the beginning of the writer's response until others can read what it wrote;
    a callable is asked once for each response that writes."""

    clock: Callable[[], float]
    """Seconds. Replace it before the first request, or leave it and `advance`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Empty, and everything as at the start. Requests still under way leave nothing behind."""
        with self._lock:
            self._entries: dict[bytes, Entry] = {}
            self._advanced = 0.0
            self.minimum, self.lag, self.clock = MINIMUM, 0.0, time.monotonic

    def advance(self, seconds: float) -> None:
        """Let the cache, and nothing else, grow older."""
        with self._lock:
            self._advanced += seconds

    def visit(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Visit:
        prompt = Prompt(body, headers)
        marks = [mark for mark in prompt.breakpoints if prompt.totals[mark.position] >= self.minimum]
        if not marks:
            return Visit(read=0, written={"5m": 0, "1h": 0}, total=prompt.tokens, begun=_nothing)
        with self._lock:
            found = self._longest_readable(prompt, marks)
            entries = self._entries
        written: dict[Life, int] = {"5m": 0, "1h": 0}
        paid = read = prompt.totals[found] if found >= 0 else 0
        for mark in marks:
            if mark.position > found:
                written[mark.life] += prompt.totals[mark.position] - paid
                paid = prompt.totals[mark.position]

        def begun() -> None:
            self._keep(entries, prompt, marks, found)

        return Visit(read=read, written=written, total=prompt.tokens, begun=begun)

    def _now(self) -> float:
        return self.clock() + self._advanced

    def _longest_readable(self, prompt: Prompt, marks: list[Breakpoint]) -> int:
        """The last position of that prefix, or -1."""
        now = self._now()
        candidates = {mark.position - back for mark in marks for back in range(LOOK_BACK + 1)}
        for position in sorted(candidates, reverse=True):
            if position < 0 or prompt.totals[position] < self.minimum:
                break
            entry = self._entries.get(prompt.identities[position])
            if entry is not None and entry.readable_at <= now < entry.expires_at:
                return position
        return -1

    def _keep(self, entries: dict[bytes, Entry], prompt: Prompt, marks: list[Breakpoint], found: int) -> None:
        writes = any(mark.position > found for mark in marks)
        lag = (self.lag() if callable(self.lag) else self.lag) if writes else 0.0
        with self._lock:
            now = self._now()
            if found >= 0 and (read := entries.get(prompt.identities[found])) is not None:
                read.expires_at = max(read.expires_at, now + read.life)
            for mark in marks:
                identity, life = prompt.identities[mark.position], SECONDS[mark.life]
                entry = entries.get(identity)
                if entry is None or entry.expires_at <= now:
                    entries[identity] = Entry(life, now + lag, now + life)
                else:
                    entry.life = max(entry.life, life)
                    entry.readable_at = min(entry.readable_at, now + lag)
                    entry.expires_at = max(entry.expires_at, now + entry.life)


def _nothing() -> None:
    pass
