"""A stream on its way to its caller, its own or one that another leads; as ``flow``, written once."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from aicache.core.gating import Shut
from aicache.core.live import BROKEN, Ended, How, Last, Live
from aicache.core.operations import Elapsed, Now, Operation, Unavailable
from aicache.core.recording import Recording
from aicache.core.records import Ask, Broken, Called, Failure, Opened, Served, Stamps
from aicache.core.streaming import (
    Begin,
    Check,
    Ending,
    Give,
    Leave,
    Left,
    Outgrow,
    Pull,
    Share,
    Tail,
    Unfollow,
    Withhold,
)

# A leader after whom nobody can ask for so long counts as dead: its lease would have ended.
LOST: Final = 6.0


class Gate(Protocol):
    """What is to know when an answer begins."""

    @property
    def is_waited_for(self) -> bool:
        """Whether others wait for that."""

    def begun(self, message: Any) -> Generator[Operation, Any, None]:
        """Told of the message, as far as it is known; how often does not matter."""

    def unseen(self) -> Generator[Operation, Any, None]:
        """Told that nobody can tell what it says."""


@dataclass(slots=True)
class Leading:
    """By what right a caller's stream is the one that others wait for, and ``live``, what they read of it, once there
    is something to read."""

    stamps: Stamps
    token: str
    live: Live | None = None

    def broken(self) -> Ending | None:
        """What becomes of it where its own caller's flow does not come to its end."""
        return None if self.live is None else Ending("broken", self.live)


def passing(
    called: Called, opened: Opened, served: Served, leading: Leading | None = None, gate: Gate | None = None
) -> Generator[Operation, Any, tuple[Called, Ending]]:
    """Passes one's own stream on as it comes. → what it came to, and how that ended for those who follow it.

    Whatever becomes of its recording makes no difference to what its caller gets. The end of a message is withheld
    until the flow has ended: who has it finds the answer stored.
    """
    live = Live()
    try:
        if leading is not None:
            live = leading.live = yield Share(opened.ask, leading.stamps, leading.token, aloud=opened.ask.live)
        live.open(opened.headers, opened.ask.policy.max_bytes, aloud=opened.ask.live)
        live.is_led_here = True
        return (yield from _passing(called, opened, served, leading, live, gate))
    except BaseException:  # though nobody may drive this flow any more: who reads it is not to wait for it
        live.end(BROKEN)
        raise
    finally:
        live.is_led_here = False
        opened.upstream.over()


def _passing(
    called: Called, opened: Opened, served: Served, leading: Leading | None, live: Live, gate: Gate | None
) -> Generator[Operation, Any, tuple[Called, Ending]]:
    ask, recording = opened.ask, Recording()
    ahead: deque[bytes | Exception | None] = deque()
    if gate is not None and gate.is_waited_for:  # others are not to wait until its caller reads
        yield from _peek(opened, ahead, gate) if opened.is_events else gate.unseen()
    leave = None if leading is None else Leave(ask, leading.stamps, leading.token)
    begun, last = False, b""
    while not recording.is_over():
        try:
            if not begun:
                begun = True
                yield Begin(served, live, leave, drains=leading is not None and ask.policy.drain)
            try:
                chunk: bytes | None = _taken(ahead) if ahead else (yield Pull(opened.upstream))
            except Left:
                raise
            except Exception as error:  # noqa: BLE001 - upstream's own, and its caller's
                how: How = "timeout" if opened.upstream.is_timeout(error) else "broken"
                return Called(error, Broken(True)), Ending(how, live)
            if chunk is None:
                return Called(called.raw, Broken(False, "incomplete")), Ending("cut", live)
            fresh = recording.feed(chunk)
            if gate is not None:
                yield from gate.begun(recording.message)
            if not recording.is_over():
                yield from _grown(ask, leading, recording, live, fresh)
                yield Give(chunk)
                continue
            last, at = fresh, recording.before_last(chunk)
            yield Withhold(chunk[at:])
            yield Give(chunk[:at])
        except Left:
            if not recording.is_over() and not (yield from _is_needed(ask, leave)):
                return Called(called.raw, Broken(False, "left")), Ending("broken", live)
    if recording.has_failed:  # in band: who reads it meets it there
        return Called(called.raw, Broken(True)), Ending("failed", live, last)
    if recording.is_spoiled:
        return Called(called.raw, Broken(False, "not_a_message")), Ending("broken", live)
    kept = None if live.outgrown else live.since(live.start)
    body, events = (b"", b"") if kept is None else (recording.body, kept + last)
    answer = opened.upstream.answer(body, events, recording.message)
    return Called(called.raw, answer, recording.message, recording.size), Ending("whole", live, last)


def _peek(opened: Opened, ahead: deque[bytes | Exception | None], gate: Gate) -> Generator[Operation, Any, None]:
    """Reads until the message has begun; its caller gets what that was, be it an error, when it reads."""
    recording = Recording()
    try:
        while recording.message is None and not recording.is_over():
            try:
                chunk: bytes | None = yield Pull(opened.upstream)
            except Exception as error:  # noqa: BLE001 - upstream's own, and its caller's
                ahead.append(error)
                return
            ahead.append(chunk)
            if chunk is None:
                return
            recording.feed(chunk)
        yield from gate.begun(recording.message)
    except GeneratorExit:
        raise
    except BaseException:  # it has been handed to nobody who would
        yield Shut(opened.upstream)
        raise


def _taken(ahead: deque[bytes | Exception | None]) -> bytes | None:
    first = ahead.popleft()
    if isinstance(first, Exception):
        raise first
    return first


def _grown(
    ask: Ask, leading: Leading | None, recording: Recording, live: Live, fresh: bytes
) -> Generator[Operation, Any, None]:
    before = live.outgrown
    live.feed(fresh)
    if live.outgrown and not before:
        recording.forget()
        if leading is not None:
            yield Outgrow(ask, leading.stamps, leading.token)


def _is_needed(ask: Ask, leave: Leave | None) -> Generator[Operation, Any, bool]:
    """Whether the rest of a stream is, whose caller has left. Its tokens are money."""
    if leave is None:
        return False
    if ask.policy.drain:
        return True
    try:
        return bool((yield leave))
    except Unavailable:
        return False


def following(ask: Ask, stamps: Stamps, token: str, live: Live, waited: float) -> Generator[Operation, Any, Served]:
    """Passes somebody else's stream on, from its first event to its end."""
    begun = Served("coalesced", waited=waited, headers=live.headers)
    over = Unfollow(ask, stamps, token, live)
    try:
        ended = yield from _followed(ask, stamps, token, live, begun)
    except Left:
        yield over
        return replace(begun, reason="left")
    except GeneratorExit:  # nobody drives this flow any more
        live.leave()
        raise
    except BaseException:
        yield over
        raise
    yield over
    if ended.how in ("broken", "timeout"):
        failure = Failure("timeout" if ended.how == "timeout" else "connection")
        return replace(begun, status="error", failure=failure)
    if ended.how == "failed":  # who reads it meets it there
        return replace(begun, status="error")
    if ended.entry is None:
        return replace(begun, reason="" if ended.how == "whole" else "incomplete")
    now = (yield Now(ask.policy)).now
    return replace(begun, entry=ended.entry, now=now, stored=ended.entry.dies_at > now)


def _followed(ask: Ask, stamps: Stamps, token: str, live: Live, begun: Served) -> Generator[Operation, Any, Ended]:
    yield Begin(begun, live)
    at = live.start
    heard: float = yield Elapsed()
    reached, beats = heard, live.beats
    while True:
        got: bytes | Last | None = yield Tail(live, at)
        now: float = yield Elapsed()
        if isinstance(got, Last):
            yield Withhold(got.piece)
            return got.ended
        if got is not None:
            at += len(got)
            yield Give(got)
            heard = reached = yield Elapsed()  # how long its caller took is nobody's silence
            continue
        if live.beats != beats:  # pings are not passed on, and are signs of life
            beats, heard, reached = live.beats, now, now
            continue
        if ask.timeout is not None and now - heard > ask.timeout:
            return Ended("timeout")
        try:
            yield Check(ask, stamps, token, live)
            reached = now
        except Unavailable:
            if now - reached > LOST:
                return BROKEN
