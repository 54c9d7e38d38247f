"""The prompt-cache gate in this process's memory: as the store's, without a server."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

from aicache.core.gating import Approach, AtGate, Note, Observe, Quit, Scout, Stay, Way
from aicache.core.lag import NO_LAG, Lag
from aicache.core.prefix import Prompt
from aicache.core.turns import Held, Led, News
from aicache.core.usage import Living, Mark, Usage, was_read
from aicache.store.line import ended

REMEMBERED = 1000


@dataclass
class _Prefix:
    at: float
    life: float
    tokens: int
    is_exact: bool
    is_written: bool
    until: float = 0.0
    is_read: bool = False
    said: set[str] = field(default_factory=set)


class MemoryPrefixes:
    """A lease does not end by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prefixes: dict[str, _Prefix] = {}
        self._gates: dict[str, str] = {}  # who writes a prefix
        self._news: dict[str, Future[News]] = {}
        self._ended: dict[str, Future[News]] = {}  # for those who were told to stay and have not come yet
        self._lags: dict[str, Lag] = {}

    def perform(self, operation: AtGate, *, is_on: bool = True) -> Any:
        with self._lock:
            match operation:
                case Approach():
                    return self._approach(operation.prompt, is_on=is_on)
                case Scout():
                    return self._is_first(operation, "scouted")
                case Note():
                    lived = self._note(operation)
                    return lived if is_on else None
                case Quit():
                    return self._let_go(operation.token, News.BROKE_OFF if operation.has_failed else News.LOOK_AGAIN)
                case Observe():
                    return self._learn(operation)

    def stay(self, operation: Stay) -> News:
        if (news := self._awaited(operation)) is not None:
            wait([news], min(operation.seconds, threading.TIMEOUT_MAX))
        return _told(news)

    async def astay(self, operation: Stay) -> News:
        if (news := self._awaited(operation)) is not None:
            await ended(news, operation.seconds)
        return _told(news)

    def _awaited(self, operation: Stay) -> Future[News] | None:
        """What is told to who stays; None where nobody would."""
        with self._lock:
            return self._news.get(operation.token) or self._ended.get(operation.token)

    def let_go(self) -> None:
        """Everybody."""
        with self._lock:
            for token in list(self._news):
                self._let_go(token, News.LOOK_AGAIN)

    def _approach(self, prompt: Prompt, *, is_on: bool) -> Way:
        living = self._living(prompt)
        lag = self._lags.get(prompt.lag_of, NO_LAG)
        wanted = {
            digest: at
            for at in prompt.worth_waiting
            if (living is None or at > living.at) and self._tokens(digest := prompt.prefixes[at].digest) != 0
        }
        for digest, at in reversed(wanted.items()):
            if (token := self._gates.get(digest)) is not None:
                return Way(living, held=Held(token, float("inf")), held_at=at, lag=lag, is_on=is_on)
        if not wanted:
            return Way(living, lag=lag, is_on=is_on)
        led = Led(secrets.token_hex(16))
        self._gates.update(dict.fromkeys(wanted, led.token))
        self._news[led.token] = Future()
        self._news[led.token].set_running_or_notify_cancel()  # who is cancelled does not cancel it for the others
        return Way(living, led, lag=lag, is_on=is_on)

    def _note(self, note: Note) -> tuple[Living, ...]:
        before = self._lives(note.prompt)
        longest = before[-1] if before else None
        if longest is not None and was_read(Usage(note.read, 0), longest):
            found = self._prefixes[note.prompt.prefixes[longest.at].digest]
            found.is_read, found.until = True, time.monotonic() + found.life
        for mark in note.marks:
            self._mark(note.prompt.prefixes[mark.at].digest, mark)
        self._let_go(note.token, News.LOOK_AGAIN)
        return before

    def _mark(self, digest: str, mark: Mark) -> None:
        now = time.monotonic()
        known = self._tokens(digest)
        if known is None or (not known and mark.tokens):
            fresh = _Prefix(now, mark.life, mark.tokens, mark.is_exact, mark.is_written, now + mark.life)
            self._prefixes[digest] = fresh
            return
        found = self._prefixes[digest]
        if mark.tokens:
            if mark.is_exact:
                found.tokens, found.is_exact = mark.tokens, True
            found.is_written |= mark.is_written
            found.life = max(found.life, mark.life)
            found.until = max(found.until, now + mark.life)

    def _let_go(self, token: str, news: News) -> None:
        self._gates = {digest: holder for digest, holder in self._gates.items() if holder != token}
        if (waiting := self._news.pop(token, None)) is not None:
            waiting.set_result(news)
            self._ended[token] = waiting
            while len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _learn(self, observed: Observe) -> None:
        if self._is_first(observed, f"read {observed.read}"):
            of = observed.prompt.lag_of
            self._lags[of] = self._lags.get(of, NO_LAG).after(observed.gap, read=observed.read)

    def _is_first(self, operation: Scout | Observe, what: str) -> bool:
        digest = operation.prompt.prefixes[operation.at].digest
        if self._tokens(digest) is None or what in self._prefixes[digest].said:
            return False
        self._prefixes[digest].said.add(what)
        return True

    def _tokens(self, digest: str) -> int | None:
        found = self._prefixes.get(digest)
        return found.tokens if found is not None and found.until > time.monotonic() else None

    def _living(self, prompt: Prompt) -> Living | None:
        return lives[-1] if (lives := self._lives(prompt)) else None

    def _lives(self, prompt: Prompt) -> tuple[Living, ...]:
        """The shortest first."""
        return tuple(
            Living(at, time.monotonic() - known.at, known.tokens, known.is_exact, known.is_read, known.is_written)
            for at, found in enumerate(prompt.prefixes)
            if self._tokens(found.digest)
            for known in (self._prefixes[found.digest],)
        )


def _told(news: Future[News] | None) -> News:
    return news.result() if news is not None and news.done() else News.LOOK_AGAIN
