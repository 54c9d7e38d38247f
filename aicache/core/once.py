"""One answer for a name: a call under an idempotency key.

Who claims the key calls, as anybody does without one; the answer is then pinned to it, whatever the policy says of
storing. Others under the same key wait for that. The database decides, with Redis or without.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, Final

from aicache.core.flow import Serving, alone, has_form
from aicache.core.operations import (
    Busy,
    Claim,
    Claimed,
    Elapsed,
    Look,
    Moment,
    Now,
    Operation,
    Pause,
    Pinned,
    Settle,
    Unavailable,
)
from aicache.core.policy import traits
from aicache.core.prefix import Prompt
from aicache.core.records import Answer, Called, Entry, Failure, Pin, Served, Stamps, Status

# For so long a key is the same request's.
LIFE: Final = 24 * 3600.0
# A waiter asks again after this many seconds, then after twice as many, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
# Who hears of the end need not ask, but for an end that nobody tells.
HEARING_PAUSE: Final = 10.0


def once(pin: Pin, serving: Callable[[], Serving]) -> Serving:
    """Answers one attempt of one call under a key. ``serving``: how it is answered without one.

    Raises IdempotencyConflict. Where nothing is known of the key, it is answered as without one.
    """
    if not (yield from _is_on(pin)):
        return (yield from serving())
    waited, pause = 0.0, FIRST_PAUSE
    longest = float("inf") if pin.ask.timeout is None else pin.ask.timeout
    began: float = yield Elapsed()
    while True:
        try:
            turn = yield Claim(pin)
            if isinstance(turn, Busy) and waited <= longest:
                wait = HEARING_PAUSE if turn.here else pause
                yield Pause(max(min(wait, longest - waited), FIRST_PAUSE), turn, pin.ask)
        except Unavailable:
            return (yield from serving())
        match turn:
            case Pinned() if not has_form(turn.entry, pin.ask):
                return (yield from serving())
            case Pinned():
                now = (yield Now(pin.ask.policy)).now
                status: Status = "coalesced" if waited else "hit"
                return Served(status, "idempotency_key", entry=turn.entry, now=now, waited=waited, stored=True)
            case Claimed():
                return (yield from settled(pin, turn, serving(), waited))
        if waited > longest:  # its own call would have timed out by now, and must not be made beside the other
            return Served("error", "waited_out", failure=Failure("timeout"), waited=waited)
        waited = (yield Elapsed()) - began
        pause = min(2 * pause, LONGEST_PAUSE)


def settled(pin: Pin, claimed: Claimed, serving: Serving, waited: float) -> Serving:
    """Is answered, and pins that, or lets go of the key whatever becomes of it."""
    try:
        served = yield from serving
        if _is_uncounted(served) and served.headers is None:  # what has been read cannot be given anew
            served = yield from anew(served, pin.ask.prompt)
    except GeneratorExit:  # nobody drives this flow any more: the claim ends by itself
        raise
    except BaseException:
        yield Settle(pin, claimed, None)
        raise
    moment: Moment = yield Now(pin.ask.policy)
    yield Settle(pin, claimed, pinnable(served, pin, claimed, moment.now))
    return replace(served, waited=served.waited + waited)


def anew(kept: Served, prompt: Prompt | None) -> Serving:
    """Of what is kept nobody can tell later whether it has died, so that it cannot be repeated for a day: it is asked
    for once more. Where that fails it is an answer all the same."""
    try:
        served = yield from alone("miss", "policy", kept.waited, prompt)
    except Exception:  # noqa: BLE001 - its caller has an answer, and need not hear of it
        return kept
    return kept if served.status == "error" else served


def pinnable(served: Served, pin: Pin, claimed: Claimed, now: float) -> Entry | None:
    """The answer with the counts that it was made under, or None where it is none to be repeated.

    Of an answer that somebody else called for, only who called knows them: what is counted now may be newer.
    """
    ask, answer = pin.ask, _answer(served)
    counted: tuple[int, ...] | None = claimed.counted
    if served.own is None:
        counted = served.entry.stamps.generations if served.entry is not None else None
    if answer is None or counted is None:
        return None
    made = now if served.own is not None or served.entry is None else served.entry.stored_at
    return Entry(ask.key, ask.tenant, answer, made, now + LIFE, now + LIFE, Stamps(generations=counted))


def _is_uncounted(served: Served) -> bool:
    return served.own is None and served.entry is not None and served.entry.stamps.generations is None


def _answer(served: Served) -> Answer | None:
    match served.own:
        case None:
            return served.entry.answer if served.entry is not None else None
        case Called(outcome=Answer() as answer, message=Mapping() as message) if message.get("type") == "message":
            return replace(answer, traits=traits(message)) if answer.size else None
    return None


def _is_on(pin: Pin) -> Generator[Operation, Any, bool]:
    """Who switches the fleet off means this too."""
    try:
        return bool((yield Look(pin.ask)).enabled)
    except Unavailable:
        return True
