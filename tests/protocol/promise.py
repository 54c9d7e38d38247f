"""What a reader may be given, and what becomes of it once it has that."""

from __future__ import annotations

from tests.protocol.copies import generations, handed_over
from tests.protocol.state import UNCOMMITTED, Copy, Entry, Reader, State
from tests.protocol.world import World


class Stale(Exception):
    """Somebody is served what the protocol promises to keep from them."""


def floor(state: State, reader: Reader) -> int:
    """A plain reader's: what is acknowledged, or settled (nobody is at it any more), or due from its own process."""
    database = state.database
    if reader.kind == "strict":
        return database.version
    settled = not database.pending and all(saver.step != "bare" for saver in state.savers)
    oldest = database.version if settled else state.acknowledged
    return max(oldest, state.owed[reader.home]) if state.owed else oldest


def serve(state: State, world: World, at: int, reader: Reader, answer: Entry | Copy, how: str) -> State:
    """Raises Stale."""
    check(state, at, reader, answer.version, how)
    return ends(pinned(state, world, answer), at, reader)


def check(state: State, at: int, reader: Reader, version: int, how: str) -> None:
    """Raises Stale."""
    if version == UNCOMMITTED:
        saver = state.savers[0]
        if saver.step in ("open", "done") and saver.version == 0:
            raise Stale(f"reader {at} gets what is not committed ({how})")
        version = saver.version
    if reader.kind == "inside":
        raise Stale(f"reader {at} gets version {version}, without its own transaction's change ({how})")
    if version < reader.floor:
        raise Stale(f"reader {at} must get version {reader.floor} or a later one, and gets {version} ({how})")


def pinned(state: State, world: World, answer: Entry | Copy) -> State:
    """To the name under which the reader asked, where it asked under one. What nobody counted is not pinned."""
    if not world.pins:
        return state
    made_under = generations(state, world) if world.mistake == "pin_today" else answer.generations
    return state if made_under is None else handed_over(state, answer.version, made_under)


def ends(state: State, at: int, reader: Reader) -> State:
    return state.with_reader(at, Reader(reader.kind, reader.home, "done"))
