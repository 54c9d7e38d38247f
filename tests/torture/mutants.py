"""Mistakes in the product that the torture must find. Each is made in the code as it runs, before anybody is forked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any


def no_comparison() -> None:
    """A reader takes whatever entry stands."""
    from aicache.core.records import Stamps

    Stamps.stand = lambda self, now: True  # type: ignore[method-assign]


def stamps_after_the_call() -> None:
    """An answer is kept with the stamps that stand when it comes, not those from before the call."""
    from aicache.core.records import Stamps
    from aicache.store import news, plans

    class Patient(Stamps):
        def stand(self, now: Stamps) -> bool:
            return True

    finish = plans.finish

    def late(keys: Any, of: Any, message: Any) -> Any:
        if of.entry is None or not of.ask.tags:
            return (yield from finish(keys, of, message))
        now = yield from plans.capture(keys, of.ask)
        entry = replace(of.entry, stamps=replace(now, generations=of.entry.stamps.generations))
        of = replace(of, entry=entry)
        patient = Patient(of.stamps.values, of.stamps.generations, of.stamps.epoch)
        return (yield from finish(keys, replace(of, stamps=patient), news.message(of)))

    plans.finish = late


def no_epoch() -> None:
    """A server that was started anew is taken for the one that it was."""
    from aicache.store.links import Link

    learn = Link._learn

    def learn_nothing(self: Any) -> None:
        learn(self)
        self.keys = replace(self.keys, epoch="0" * len(self.keys.epoch))

    Link._learn = learn_nothing  # type: ignore[method-assign]
    Link._compare = lambda self, place, answers: self._met.setdefault(place, "somebody")  # type: ignore[assignment]


def any_leader() -> None:
    """Who waits takes the answer of a call that began under other stamps."""
    from aicache.core.records import Stamps

    Stamps.flight = property(lambda self: "0" * 32)  # type: ignore[assignment, method-assign]


def counts_nothing() -> None:
    """The database has always counted the same: strict readers believe the stamps, and what is kept lives for ever."""
    from aicache.durable import claims, copies, work

    for module in (claims, copies, work):
        module.generations = lambda tags: tuple(0 for _ in tags)  # type: ignore[attr-defined]


def purges_redis_alone() -> None:
    """Of the purge of a single answer nothing is left that a copy of it is compared with."""
    from aicache.core.records import Ask
    from aicache.core.tags import Tag

    Ask.counted = property(lambda self: (*self.tags, Tag("another", "")))  # type: ignore[assignment, method-assign]


def saves_apart() -> None:
    """A row and its invalidation are two transactions in autocommit."""
    from aicache.freshness import outbox, saves

    class Apart:
        ensured = staticmethod(lambda using: contextlib.nullcontext(False))

        def __getattr__(self, name: str) -> Any:
            return getattr(outbox, name)

    saves.outbox = Apart()  # type: ignore[assignment]


def drains_nothing() -> None:
    """What is pending is marked as applied, and no stamp is drawn."""
    from aicache.freshness import drain

    class Idle:
        apply = staticmethod(lambda tags, *, using, cause: None)

    drain.stamps = Idle  # type: ignore[assignment]


MUTANTS: dict[str, Callable[[], None]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        no_comparison,
        stamps_after_the_call,
        no_epoch,
        any_leader,
        counts_nothing,
        purges_redis_alone,
        saves_apart,
        drains_nothing,
    )
}


def apply(name: str | None) -> None:
    if name is not None:
        MUTANTS[name]()
