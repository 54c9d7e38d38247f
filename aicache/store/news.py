"""What a leader's end means for those who wait for it, and how it is published."""

from __future__ import annotations

from typing import Final

from aicache.core.operations import Finish, News
from aicache.core.records import Entry, Failure
from aicache.store.payload import Unreadable, pack_entry, pack_failure, read_entry, unpack_failure

Told = Entry | Failure | News

# A subscriber's buffer is bounded on the server: larger answers are read from their entry instead.
MOST_TOLD: Final = 4 * 1024 * 1024
# Compressing more than this takes longer than an event loop may stand still.
BIG: Final = 256 * 1024

ANSWER, FAILED, NOT_SHARED, LOOK_AGAIN = b"a", b"f", b"n", b"l"


def told(finish: Finish) -> Told:
    if finish.failure is not None:
        return finish.failure
    if not finish.told:
        return News.LOOK_AGAIN
    if finish.entry is None:
        return News.NOT_SHARED if finish.alone else News.LOOK_AGAIN
    return finish.entry if finish.share or finish.keep else News.NOT_SHARED


def is_big(finish: Finish) -> bool:
    return finish.entry is not None and len(finish.entry.answer.body) > BIG


def message(finish: Finish) -> tuple[bytes, bytes]:
    """A kind and a payload; the payload is also what is stored. What is neither told nor stored is not packed."""
    payload = b""
    match told(finish):
        case Entry() as entry:
            if finish.keep or len(entry.answer.body) <= MOST_TOLD:
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
    return (LOOK_AGAIN if finish.keep else NOT_SHARED), payload


def read(data: bytes) -> Told:
    """What a published message says."""
    try:
        match data[:1]:
            case b"a":
                return read_entry(data[1:])
            case b"f":
                return unpack_failure(data[1:])
            case b"n":
                return News.NOT_SHARED
    except Unreadable:
        pass
    return News.LOOK_AGAIN
