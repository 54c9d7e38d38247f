"""One leader's call, as a store in memory knows it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from aicache.core.live import Live
from aicache.core.records import Ask, Entry, Failure
from aicache.core.turns import News


def unheard() -> Future[Entry | Failure | News]:
    """Running, so that an async waiter who is cancelled does not cancel it for the others."""
    news: Future[Entry | Failure | News] = Future()
    news.set_running_or_notify_cancel()
    return news


@dataclass(slots=True)
class Flight:
    token: str
    news: Future[Entry | Failure | News] = field(default_factory=unheard)
    live: Live = field(default_factory=Live)
    outgrown: bool = False


def tell(flight: Flight, news: Entry | Failure | News) -> None:
    if not flight.news.done():
        flight.news.set_result(news)


def of_nobody(failure: Failure) -> Failure:
    """One that says nothing about who asked."""
    return Failure(failure.kind, failure.status, failure.headers, failure.body, failure.attempt)


def where(ask: Ask) -> tuple[str, str]:
    return ask.tenant, ask.key
