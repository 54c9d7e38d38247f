"""How this process tells others what it reads of streams: one thread for all of them, and no caller waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final
from weakref import ref

from aicache.core.live import Live
from aicache.core.operations import Unavailable
from aicache.core.streaming import Share

logger = logging.getLogger("aicache.store")

# While nobody else reads it, a stream is told in steps: it is there for who comes, at a tenth of the round trips.
STEP: Final = 0.1
# A Redis that is away is tried again after this.
AGAIN: Final = 0.5
# A thread that has had nothing to say for so long ends; the next stream starts another.
IDLE: Final = 2.0
# Bytes that are told at once.
MOST: Final = 256 * 1024
# Streams that are told of in one round trip.
BATCH: Final = 64


@dataclass(slots=True)
class Told:
    """``share``: whose it is. ``at``: up to where it is told. ``due``: when the next may be. ``noticed``: it has grown
    since it was looked at. ``beats``: how often it had shown life then. ``held``: the stream, while others hold it: who
    drops one lets its lease end.
    """

    share: Share
    held: ref[Live]
    at: int = 0
    due: float = 0.0
    noticed: bool = False
    beats: int = 0


Saying = tuple[Told, Live, bytes | None]
"""What is to be told of a stream; None: that it has been lost, as it came faster than it could be told."""


class Voice:
    """``say``: tells what it is given in one round trip; a reply for each. Raises Unavailable."""

    def __init__(self, say: Callable[[Sequence[Saying]], list[Any]]) -> None:
        self._say = say
        self._streams: dict[str, Told] = {}
        self._grown: SimpleQueue[str] = SimpleQueue()
        self._lock = threading.Lock()
        self._speaks = False

    def share(self, share: Share, live: Live) -> None:
        """Tells of a stream as it grows, until it is dropped. Of one that is not shared aloud it only tells, when it is
        noticed, that it has outgrown its limit."""
        told = self._streams[share.token] = Told(share, ref(live))
        if share.aloud:
            live.grown = lambda: self._notice(told)

    def notice(self, token: str) -> None:
        """There is something to tell of it."""
        if (told := self._streams.get(token)) is not None:
            self._notice(told)

    def told_to(self, token: str) -> int | None:
        """Up to where others have been told of it; None where they are told nothing."""
        told = self._streams.get(token)
        return told.at if told is not None and told.share.aloud else None

    def drop(self, token: str) -> None:
        """Harmless where it is not known."""
        told = self._streams.pop(token, None)
        if told is not None and (live := told.held()) is not None:
            live.grown = None

    def _notice(self, told: Told) -> None:
        """Once until it is told: nobody is woken for each piece."""
        if told.noticed:
            return
        told.noticed = True
        self._grown.put(told.share.token)
        if not self._speaks:
            with self._lock:
                if not self._speaks:
                    try:
                        threading.Thread(target=self._speak, name="aicache-voice", daemon=True).start()
                        self._speaks = True
                    except RuntimeError as error:  # no thread to be had; others wait for the whole
                        logger.debug("no voice: %s", error)

    def _speak(self) -> None:
        noticed: set[str] = set()
        quiet_since = time.monotonic()
        while True:
            now = time.monotonic()
            waiting = [told for token in noticed if (told := self._streams.get(token)) is not None]
            soonest = min((told.due for told in waiting), default=now + IDLE)
            try:
                noticed.add(self._grown.get(timeout=max(soonest - now, 0.0)))
                while True:
                    noticed.add(self._grown.get_nowait())
            except Empty:
                pass
            now = time.monotonic()
            noticed &= self._streams.keys()
            due = [told for token in noticed if (told := self._streams.get(token)) is not None and told.due <= now]
            if due:
                quiet_since = now
                try:
                    self._tell(due[:BATCH], noticed)
                except Exception:  # whatever it was, the other streams and the next piece are not to suffer
                    logger.warning("others could not be told of a stream", exc_info=True)
            elif not noticed and now - quiet_since > IDLE:
                with self._lock:
                    if self._grown.empty():
                        self._speaks = False
                        return

    def _tell(self, due: list[Told], noticed: set[str]) -> None:
        wanted: list[Saying] = []
        for told in due:
            told.noticed = False
            if (live := told.held()) is None:
                self.drop(told.share.token)
                continue
            more, beats = live.since(told.at) if told.share.aloud else b"", live.beats
            if more is None:
                wanted.append((told, live, None))
            elif more or beats != told.beats:
                wanted.append((told, live, more[:MOST]))
            told.beats = beats
            if not more or len(more) <= MOST:
                noticed.discard(told.share.token)
        if not wanted:
            return
        try:
            replies = self._say(wanted)
        except Unavailable:
            replies = [None] * len(wanted)
        for (told, live, more), reply in zip(wanted, replies, strict=True):
            if more is None and reply is not None:
                self.drop(told.share.token)
            else:
                self._heard(told, live, len(more or b""), reply, noticed)

    def _heard(self, told: Told, live: Live, length: int, reply: Any, noticed: set[str]) -> None:
        match reply:
            case [b"said", others]:
                told.at += length
                told.due = time.monotonic() + (0.0 if others else STEP)
                live.followed_elsewhere(others)
            case [b"from", at]:  # it was evicted, or a reply was lost
                told.at, told.beats = at, -1
                noticed.add(told.share.token)
            case [b"late"]:
                self.drop(told.share.token)
            case _:
                told.due, told.beats = time.monotonic() + AGAIN, -1
                noticed.add(told.share.token)
