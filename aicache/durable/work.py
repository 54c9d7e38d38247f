"""What a flow asks of the database: done apart from its caller, who waits for it for a moment at most."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Final

from aicache.core.operations import Claim, Claimed, Count, Keep, Pause, Recall, Recalled, Settle, Unavailable
from aicache.core.records import Pin
from aicache.database import Turn, apart
from aicache.durable.claims import Claims
from aicache.durable.copies import Copies
from aicache.durable.trouble import Trouble
from aicache.durable.writer import Writer
from aicache.errors import IdempotencyConflict
from aicache.freshness.generations import generations
from aicache.sqlite import is_open_here, read

COUNTING: Final = Trouble("strict calls go to upstream", "strict calls are answered from the cache")


class Work:
    """One piece of it. ``future``: what it comes to. ``late``: told what it came to when nobody waited any more.

    ``otherwise``: done where it fails, which then is no failure.
    """

    def __init__(
        self,
        future: Future[Any],
        trouble: Trouble,
        *,
        late: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        self.future = future
        self._trouble = trouble
        self._late = late
        self._otherwise = otherwise

    def left(self, budget: float) -> float:
        """Seconds for which it is still to be waited for."""
        return 0.0 if self.future.done() or not isinstance(self.future, Turn) else self.future.left(budget)

    def wait(self, budget: float) -> None:
        while (seconds := self.left(budget)) > 0:
            wait([self.future], seconds)

    def result(self) -> Any:
        """What it has come to by now. Raises Unavailable, and IdempotencyConflict."""
        try:
            found = self.future.result(0)
        except IdempotencyConflict:
            self._trouble.over()
            raise
        except Exception as error:
            self._trouble.met(error)
            if self._otherwise is None:
                self.abandon()
                raise Unavailable("database") from error
            self.future.cancel()
            return self._otherwise()
        self._trouble.over()
        return found

    def abandon(self) -> None:
        """Nobody waits for it any more. What has an ``otherwise`` is to be done all the same."""
        if self._otherwise is not None or not self.future.cancel():
            self.future.add_done_callback(self._comes_late)

    def _comes_late(self, future: Future[Any]) -> None:
        failed = future.cancelled() or future.exception() is not None
        if failed and self._otherwise is not None:
            self._otherwise()
        elif not failed and self._late is not None:
            self._late(future.result())


class Durable:
    """What one site keeps in one database; ``copies``: whether of answers too."""

    def __init__(self, site: str, using: str, writer: Writer, *, copies: bool = True) -> None:
        self.using = using
        self.copies = Copies(site, using, writer) if copies else None
        self.claims = Claims(site, using, writer)
        self.copying = Trouble("copies of answers are not read", "copies of answers are read")
        self.claiming = Trouble("idempotency keys are not heeded", "idempotency keys are heeded")

    def begin(self, operation: Recall | Claim | Settle) -> Work:
        """Raises Unavailable where it has just failed."""
        if isinstance(operation, Settle):
            return self._settle(operation)
        if isinstance(operation, Claim):
            writes = not is_open_here(self.using)
            claim = apart(self.claims.claim, operation.pin, writes=writes)
            return Work(claim, self.claiming, late=partial(self._lets_go, operation.pin))
        if self.copies is None:
            return Work(_done(Recalled()), self.copying)
        if self.copying.is_recent or self.claiming.is_recent:
            raise Unavailable("database")
        recall = partial(self.copies.recall, operation.ask, copy=operation.copy)
        return Work(apart(read, self.using, recall), self.copying)

    def _settle(self, operation: Settle) -> Work:
        pin, claimed, entry = operation.pin, operation.claimed, operation.entry
        if claimed.led is None or is_open_here(self.using):
            self.claims.settle_later(pin, claimed, entry)
            return Work(_done(None), self.claiming)
        later = partial(self.claims.settle_later, pin, claimed, entry)
        return Work(apart(self.claims.settle, pin, claimed, entry), self.claiming, otherwise=later)

    def _lets_go(self, pin: Pin, turn: Any) -> None:
        """Of a key that is its caller's, who has gone on without it, or has gone."""
        if isinstance(turn, Claimed):
            self.claims.settle_later(pin, turn, None)

    def over(self, operation: Pause) -> Future[None] | None:
        """What a waiter may wait for instead of time: the other is at it in this process, or was a moment ago."""
        if not operation.busy.here:
            return None
        return self.claims.over(operation.busy.token) or _done(None)

    def keep(self, operation: Keep) -> None:
        if self.copies is not None:
            self.copies.keep(operation.ask, operation.entry)


def counting(operation: Count) -> Work:
    return Work(apart(generations, operation.tags), COUNTING)


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
