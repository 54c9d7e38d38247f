"""The algorithm, written once: look up → (hit | stale | wait | lead) → call → publish.

A flow yields operations and is sent their results; who drives it calls or awaits. It owns no clock, no socket, no lock.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from aicache.core.operations import (
    Call,
    Elapsed,
    Finish,
    Held,
    Lead,
    Led,
    Look,
    Moment,
    News,
    Now,
    Operation,
    Seen,
    Spawn,
    Unavailable,
    Wait,
)
from aicache.core.policy import Life, verdict
from aicache.core.records import Ask, Called, Entry, Failure, Served, Status

Serving = Generator[Operation, Any, Served]


def serve(ask: Ask) -> Serving:
    """Answers one attempt of one call."""
    try:
        seen: Seen = yield Look(ask)
    except Unavailable as trouble:
        return (yield from alone("degraded", str(trouble)))
    if not seen.enabled:
        return (yield from alone("bypass", "switched_off"))
    if seen.entry is None or ask.refresh:
        return (yield from fly(ask, "refresh" if ask.refresh else seen.reason))
    if seen.now < seen.entry.fresh_until:
        return Served("hit", entry=seen.entry, now=seen.now, stored=True)
    yield from revalidate(ask)
    return Served("stale", entry=seen.entry, now=seen.now, stored=True)


def fly(ask: Ask, reason: str) -> Serving:
    """Leads the one call there is for this key, or waits for who does."""
    strangers = 0
    waited = 0.0
    while True:
        elapsed: float = yield Elapsed()
        try:
            turn = yield Lead(ask, since=elapsed, refresh=ask.refresh)
            if isinstance(turn, Held):
                if (patience := ask.patience - waited) <= 0:
                    return (yield from alone("miss", "waited_out", waited))
                turn = yield Wait(ask, turn.token, min(turn.seconds, patience))
                waited += (yield Elapsed()) - elapsed
        except Unavailable as trouble:
            return (yield from alone("degraded", str(trouble), waited))
        match turn:
            case Led():
                return (yield from lead(ask, turn, reason, waited))
            case Entry():
                now = (yield Now(ask.policy)).now
                status: Status = "coalesced" if waited else "hit"
                return Served(status, entry=turn, now=now, waited=waited, stored=turn.dies_at > now)
            case Failure() if turn.concerns(ask):
                return Served("error", failure=turn, waited=waited)
            case Failure():
                # Its trouble is its own. Twice is enough: strangers must not fail one after another before us.
                strangers += 1
                if strangers > 1:
                    return (yield from alone("miss", "not_shared", waited))
            case News.NOT_SHARED:
                return (yield from alone("miss", "not_shared", waited))
            case News.LOOK_AGAIN:
                pass


def lead(ask: Ask, led: Led, reason: str, waited: float = 0.0) -> Serving:
    """Calls upstream for everybody, and lets everybody go whatever becomes of it."""
    try:
        called: Called = yield Call()
        moment: Moment = yield Now(ask.policy)
    except GeneratorExit:  # nobody drives this flow any more: the lease ends by itself
        raise
    except BaseException:
        yield from finish(Finish(ask, led.token))
        raise
    outcome = called.outcome
    if isinstance(outcome, Failure):
        yield from finish(Finish(ask, led.token, failure=outcome))
        return Served("error", own=called, waited=waited)
    judged = verdict(called.message, len(outcome.body), ask.policy)
    if judged.store and moment.life.dies_at <= moment.now:
        judged = replace(judged, store=False, reason="no_ttl")
    life = moment.life if judged.store else Life(moment.now, moment.now)
    entry = Entry(ask.key, ask.tenant, outcome, moment.now, life.fresh_until, life.dies_at)
    still_ours = yield from finish(Finish(ask, led.token, entry=entry, keep=judged.store, share=judged.share))
    if judged.store and not still_ours:
        judged = replace(judged, store=False, reason="unavailable" if still_ours is None else "superseded")
    return Served(
        "miss",
        judged.reason or reason,
        own=called,
        entry=entry if judged.store else None,
        now=moment.now,
        waited=waited,
        stored=judged.store,
    )


def finish(finishing: Finish) -> Generator[Operation, Any, bool | None]:
    """Whether the lease was still ours; None where the store could not be reached: it then ends by itself."""
    try:
        return bool((yield finishing))
    except Unavailable:
        return None


def revalidate(ask: Ask) -> Generator[Operation, Any, None]:
    """Lets one of those who are served a stale answer renew it in the background, the others go on at once."""
    try:
        # A failure just now is reason enough not to try again, whoever met it.
        turn = yield Lead(ask, since=float("inf"), refresh=True)
    except Unavailable:
        return
    if isinstance(turn, Led):
        yield Spawn(lead(ask, turn, "expired"))


def alone(status: Status, reason: str = "", waited: float = 0.0) -> Serving:
    """Calls upstream for nobody else, and keeps nothing."""
    called: Called = yield Call()
    failed = isinstance(called.outcome, Failure)
    return Served("error" if failed else status, reason, own=called, waited=waited)
