"""What a leader has to say to those who wait for it, or read what it reads, and how that is published."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from aicache.core.live import Ended, How, Live
from aicache.core.operations import Finish
from aicache.core.records import Entry, Failure
from aicache.core.turns import News
from aicache.store.payload import Unreadable, pack_entry, pack_failure, read_entry, unpack_failure

Told = Entry | Failure | News

# A subscriber's buffer is bounded on the server: larger answers are read from their entry instead.
MOST_TOLD: Final = 4 * 1024 * 1024
# Compressing more than this takes longer than an event loop may stand still.
BIG: Final = 256 * 1024

ANSWER, FAILED, NOT_SHARED, LOOK_AGAIN = b"a", b"f", b"n", b"l"
SUPERSEDED: Final = b"s"  # an answer for those who wait alone
PIECE, ENDING, BROKE_OFF = b"p", b"e", b"o"

HOWS: Final[dict[bytes, How]] = {b"w": "whole", b"c": "cut", b"f": "failed", b"b": "broken", b"t": "timeout"}
WORDS: Final = {how: word for word, how in HOWS.items()}
PLACE: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Heard:
    """``told``: to who waits. To who reads a stream: ``how`` it ended, None where that is not said; ``tail``, its last
    bytes, from ``at`` on."""

    told: Told
    how: How | None = None
    at: int = 0
    tail: bytes = b""

    def end(self, live: Live) -> None:
        """Lets those know who read it."""
        if isinstance(self.told, Entry) and self.told.answer.events:
            live.end(Ended("whole", self.told))
        elif self.how is None:
            live.doubt()
        elif live.receive(self.at, self.tail) or self.how == "broken":
            live.end(Ended(self.how))


def said(finish: Finish, kept: bool | None) -> Heard:
    """What the end of a flight means to this process's own. ``kept``: whether it came to be as it says."""
    ending, what = finish.ending, told(finish)
    if isinstance(what, Entry) and not kept:
        what = _unkept(what)
    if ending is None:
        return Heard(what)
    return Heard(what, ending.how, ending.live.position, ending.tail)


def told(finish: Finish) -> Told:
    if finish.failure is not None:
        return finish.failure
    if not finish.told:
        return News.LOOK_AGAIN
    if finish.entry is None and finish.alone:
        return News.NOT_SHARED
    if finish.entry is None:
        return News.LOOK_AGAIN if finish.ending is None else News.BROKE_OFF
    return finish.entry if finish.share or finish.keep else News.NOT_SHARED


def is_big(finish: Finish) -> bool:
    return finish.entry is not None and finish.entry.answer.size > BIG


def message(finish: Finish, told_to: int = 0) -> tuple[bytes, bytes]:
    """A kind and a payload; the payload is also what is stored. What is neither told nor stored is not packed.

    ``told_to``: up to where others have been told of a stream.
    """
    payload = b""
    match told(finish):
        case Entry() as entry:
            if finish.keep or entry.answer.size <= MOST_TOLD:
                payload = pack_entry(entry)
                if len(payload) <= MOST_TOLD:
                    return ANSWER, payload
        case Failure() as failure:
            payload = pack_failure(failure)
            if len(payload) <= MOST_TOLD:
                return FAILED, payload
        case News.LOOK_AGAIN:
            kept = finish.entry is not None and finish.keep
            return LOOK_AGAIN, pack_entry(finish.entry) if kept and finish.entry is not None else b""
    if finish.ending is not None and not finish.keep:
        live = finish.ending.live
        word = BROKE_OFF if told(finish) is News.BROKE_OFF else NOT_SHARED
        untold = live.since(told_to)
        at, rest = (live.position, b"") if untold is None else (told_to, untold)
        return ENDING, word + WORDS[finish.ending.how] + PLACE.pack(at) + rest + finish.ending.tail
    return (LOOK_AGAIN if finish.keep else NOT_SHARED), payload


def head(token: str, at: int) -> bytes:
    """Of a piece of a stream."""
    return token.encode() + PIECE + PLACE.pack(at)


def lost(token: str) -> bytes:
    """Instead of a piece: it came faster than it could be told."""
    return token.encode() + ENDING + NOT_SHARED + WORDS["broken"] + PLACE.pack(0)


def piece(data: bytes) -> tuple[int, bytes]:
    """Of a message without its token: where, and what. Raises struct.error."""
    (at,) = PLACE.unpack_from(data, 1)
    return at, data[1 + PLACE.size :]


def read(data: bytes) -> Heard:
    """What a published message says, but for pieces."""
    try:
        match data[:1]:
            case b"a":
                return Heard(read_entry(data[1:]))
            case b"s":
                return Heard(_unkept(read_entry(data[1:])))
            case b"f":
                return Heard(unpack_failure(data[1:]))
            case b"n":
                return Heard(News.NOT_SHARED)
            case b"o":
                return Heard(News.BROKE_OFF)
            case b"e":
                (at,) = PLACE.unpack_from(data, 3)
                word = News.BROKE_OFF if data[1:2] == BROKE_OFF else News.NOT_SHARED
                return Heard(word, HOWS[data[2:3]], at, data[3 + PLACE.size :])
    except (Unreadable, struct.error, KeyError):
        pass
    return Heard(News.LOOK_AGAIN)


def _unkept(entry: Entry) -> Entry:
    """As a leader has one that it does not store."""
    return replace(entry, fresh_until=entry.stored_at, dies_at=entry.stored_at)
