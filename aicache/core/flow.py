"""The algorithm, written once: look up → (hit | stale | wait | lead) → call → publish.

A flow yields operations and is sent their results; who drives it calls or awaits. It owns no clock, no socket, no lock.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from aicache.core.gate import through
from aicache.core.life import Life, shorter
from aicache.core.live import Live
from aicache.core.operations import (
    Capture,
    Count,
    Elapsed,
    Finish,
    Keep,
    Lead,
    Look,
    Moment,
    Now,
    Operation,
    Recall,
    Recalled,
    Seen,
    Spawn,
    Unavailable,
    Wait,
)
from aicache.core.passing import Leading, following
from aicache.core.policy import suits, traits, verdict
from aicache.core.prefix import Prompt
from aicache.core.records import NO_STAMPS, Answer, Ask, Before, Broken, Called, Entry, Failure, Served, Stamps, Status
from aicache.core.turns import Held, Led, News

Serving = Generator[Operation, Any, Served]


def serve(ask: Ask) -> Serving:
    """Answers one attempt of one call."""
    try:
        seen, stamps = yield from look(ask)
    except Unavailable as trouble:
        return (yield from alone("degraded", str(trouble)))
    if not seen.enabled:
        return (yield from alone("bypass", "switched_off"))
    if ask.refresh:
        return (yield from fly(ask, stamps, "refresh", seen.entry))
    if seen.entry is None:
        return (yield from fly(ask, stamps, seen.reason, before=seen.before))
    entry, now = yield from judged(seen.entry, ask, stamps)
    if entry is None:
        reason = "policy" if has_form(seen.entry, ask) else "form"
        return (yield from fly(ask, stamps, reason, seen.entry))
    if now < entry.fresh_until:
        return Served("hit", entry=entry, now=now, stored=True)
    yield from revalidate(ask, stamps)
    return Served("stale", entry=entry, now=now, stored=True)


def look(ask: Ask) -> Generator[Operation, Any, tuple[Seen, Stamps]]:
    """What there is for a question, and how its tags stood before anybody is called for it."""
    seen: Seen = yield Look(ask)
    if not seen.enabled:
        return seen, NO_STAMPS
    stamps: Stamps = seen.stamps if seen.stamps is not None else (yield Capture(ask))
    if ask.policy.consistency == "strict":
        counted: tuple[int, ...] = yield Count(ask.counted)
        stamps = replace(stamps, generations=counted)
        if seen.entry is not None and (tag := seen.entry.stamps.outrun(ask.counted, counted)) is not None:
            seen = replace(seen, entry=None, reason=f"invalidated:{tag}", before=Before(tag))
    return seen, stamps


def judged(kept: Entry, ask: Ask, stamps: Stamps) -> Generator[Operation, Any, tuple[Entry | None, float]]:
    """A stored entry, no longer-lived than its reader's own policy says, or None where that would not have it; and now.

    Who stored it may have had another policy, and counted no generations: the policy is not in the key. Nor is whether
    it was streamed, and not each stream is a plain answer too.
    """
    own: Moment = yield Now(ask.policy, kept_at=kept.stored_at)
    life = shorter(Life(kept.fresh_until, kept.dies_at), own.life)
    counted = stamps.generations in (None, kept.stamps.generations)
    if not counted or not suits(kept.answer.traits, ask.policy).store or life.dies_at <= own.now:
        return None, own.now
    if not has_form(kept, ask):
        return None, own.now
    return replace(kept, fresh_until=life.fresh_until, dies_at=life.dies_at), own.now


def has_form(kept: Entry, ask: Ask) -> bool:
    return ask.streams or bool(kept.answer.body)


def fly(ask: Ask, stamps: Stamps, reason: str, standing: Entry | None = None, before: Before | None = None) -> Serving:
    """Leads the one call there is for this key, or waits for who does. The entry that stood before is no answer.

    A call that somebody began under other stamps is neither waited for nor taken from: its answer may be older.
    """
    strangers = 0
    waited = 0.0
    refresh = standing is not None
    while True:
        elapsed: float = yield Elapsed()
        heard: Entry | Failure | News | Live | None = None
        token = ""
        try:
            turn = yield Lead(ask, stamps, since=elapsed, refresh=refresh, waits=ask.patience > waited)
            if isinstance(turn, Held):
                if (patience := ask.patience - waited) <= 0:
                    return (yield from alone("miss", "waited_out", waited, ask.prompt))
                token = turn.token
                turn = heard = yield Wait(ask, token, min(turn.seconds, patience), stamps)
                waited += (yield Elapsed()) - elapsed
                refresh = False
        except Unavailable as trouble:
            return (yield from alone("degraded", str(trouble), waited))
        match turn:
            case Led():
                renews = standing is not None or ask.refresh
                return (yield from lead(ask, stamps, turn, reason, waited, before, renews=renews))
            case Live():
                return (yield from following(ask, stamps, token, turn, waited))
            case Entry() if turn is heard:
                if not suits(turn.answer.traits, ask.policy).share or not has_form(turn, ask):
                    return (yield from alone("miss", "not_shared", waited, ask.prompt))
                now = (yield Now(ask.policy)).now
                return Served("coalesced", entry=turn, now=now, waited=waited, stored=turn.dies_at > now)
            case Entry():
                entry, now = yield from judged(turn, ask, stamps)
                # One that has gone stale since is no answer here: who comes this far is ready to call.
                is_fresh = entry is not None and now < entry.fresh_until
                if ask.refresh:  # what a copy brought back is older than the wish
                    is_fresh = is_fresh and turn.stored_at >= now - (yield Elapsed())
                if is_fresh and (standing is None or turn.stored_at != standing.stored_at):
                    return Served("coalesced" if waited else "hit", entry=entry, now=now, waited=waited, stored=True)
                refresh = True
            case Failure() if turn.concerns(ask):
                return Served("error", failure=turn, waited=waited)
            case Failure():
                # Its trouble is its own. Twice is enough: strangers must not fail one after another before us.
                strangers += 1
                if strangers > 1:
                    return (yield from alone("miss", "not_shared", waited, ask.prompt))
            case News.NOT_SHARED:
                return (yield from alone("miss", "not_shared", waited, ask.prompt))
            case News.BROKE_OFF:  # likewise
                strangers += 1
                if strangers > 1:
                    return (yield from alone("miss", "not_shared", waited, ask.prompt))
            case News.LOOK_AGAIN:
                pass


def lead(
    ask: Ask,
    stamps: Stamps,
    led: Led,
    reason: str,
    waited: float = 0.0,
    before: Before | None = None,
    *,
    renews: bool = False,
    hands_over: bool = True,
) -> Serving:
    """Answers everybody, by the database's copy or by calling upstream, and lets everybody go whatever becomes of it.

    ``renews``: no copy will do. ``hands_over``: whether another leads at once where this flow is cancelled; else when
    the lease has ended by itself.
    """
    known = ""
    leading = Leading(stamps, led.token)
    try:
        # Before the call: what dies while it is under way must not be counted as known to its answer.
        recalled = yield from recall(ask, copy=not renews)
        made_under = stamps if recalled.counted is None else replace(stamps, generations=recalled.counted)
        if recalled.entry is not None:
            entry, now = yield from judged(recalled.entry, ask, made_under)
            if entry is not None and now < entry.fresh_until:
                kept = yield from finish(_putting_back(ask, stamps, led, replace(recalled.entry, stamps=made_under)))
                status: Status = "coalesced" if waited else "hit"
                return Served(status, "copy", entry=entry, now=now, waited=waited, stored=bool(kept))
            known = "policy" if entry is None else "expired"
        if reason in VAGUE:
            before = recalled.before or before
        begun = partial(Served, "miss", reason, waited=waited, before=before)
        called, ending = yield from through(ask.prompt, ask, lambda called: begun(own=called), leading, waited=waited)
        moment: Moment = yield Now(ask.policy)
    except GeneratorExit:  # nobody drives this flow any more: the lease ends by itself
        raise
    except Exception:  # what is wrong is wrong with this very call: its waiters must not repeat it one by one
        yield from finish(Finish(ask, stamps, led.token, alone=True, ending=leading.broken()))
        raise
    except BaseException:
        if hands_over:
            yield from finish(Finish(ask, stamps, led.token, ending=leading.broken()))
        raise
    outcome = called.outcome
    if isinstance(outcome, Failure):
        yield from finish(Finish(ask, stamps, led.token, failure=outcome))
        return Served("error", own=called, waited=waited)
    if not isinstance(outcome, Answer):  # who waits and has got nothing calls anew
        yield from finish(Finish(ask, stamps, led.token, ending=ending))
        return unfinished(called, "miss", waited)
    may = verdict(called.message, called.size or outcome.size, ask.policy)
    if not outcome.size:  # it was too much to be remembered
        may = replace(may, share=False)
    if may.store and moment.life.dies_at <= moment.now:
        may = replace(may, store=False, reason="no_ttl")
    life = moment.life if may.store else Life(moment.now, moment.now)
    answer = replace(outcome, traits=traits(called.message))
    entry = Entry(ask.key, ask.tenant, answer, moment.now, life.fresh_until, life.dies_at, made_under)
    finishing = Finish(ask, stamps, led.token, entry=entry, keep=may.store, share=may.share, ending=ending)
    kept = yield from finish(finishing)
    if may.store and kept is not False and recalled.counted is not None:
        yield Keep(ask, entry)
    if may.store and not kept:
        may = replace(may, store=False, reason="unavailable" if kept is None else "superseded")
    return Served(
        "miss",
        may.reason or (reason in VAGUE and (known or recalled.reason)) or reason,
        own=called,
        entry=entry if may.store else None,
        now=moment.now,
        waited=waited,
        stored=may.store,
        before=before,
    )


# What Redis says that has lost something; the database may know better.
VAGUE: Final = ("new", "evicted", "unknown")


def recall(ask: Ask, copy: bool) -> Generator[Operation, Any, Recalled]:
    """Nothing, where the database is out of reach: then no copy of the answer is made either."""
    try:
        recalled: Recalled = yield Recall(ask, copy)
    except Unavailable:
        return Recalled()
    return recalled


def _putting_back(ask: Ask, stamps: Stamps, led: Led, entry: Entry) -> Finish:
    """Under the stamps that stood before it was read: what died since ends it here as it ends an answer on its way."""
    return Finish(ask, stamps, led.token, entry=entry, keep=True, told=False)


def finish(finishing: Finish) -> Generator[Operation, Any, bool | None]:
    """Whether it could be done; None where the store could not be reached: the lease then ends by itself."""
    try:
        return bool((yield finishing))
    except Unavailable:
        return None


def revalidate(ask: Ask, stamps: Stamps) -> Generator[Operation, Any, None]:
    """Lets one of those who are served a stale answer renew it in the background, the others go on at once."""
    try:
        # A failure just now is reason enough not to try again, whoever met it.
        turn = yield Lead(ask, stamps, since=float("inf"), refresh=True, waits=False)
    except Unavailable:
        return
    if isinstance(turn, Led):
        renewing = lead(ask, stamps, turn, "expired", renews=True, hands_over=False)
        if not (yield Spawn(renewing, ask)):
            yield from finish(Finish(ask, stamps, turn.token))


def alone(status: Status, reason: str = "", waited: float = 0.0, prompt: Prompt | None = None) -> Serving:
    """Calls upstream for nobody else, and keeps nothing."""
    begun = partial(Served, status, reason, waited=waited)
    called, _ = yield from through(prompt, None, lambda called: begun(own=called), waited=waited)
    if isinstance(called.outcome, Broken):
        return unfinished(called, status, waited)
    failed = isinstance(called.outcome, Failure)
    return Served("error" if failed else status, reason, own=called, waited=waited)


def unfinished(called: Called, status: Status, waited: float) -> Served:
    """Of a stream that did not come to its end."""
    broken = called.outcome
    reason = broken.reason if isinstance(broken, Broken) else ""
    failed = isinstance(broken, Broken) and broken.has_failed
    return Served("error" if failed else status, reason, own=called, waited=waited)
