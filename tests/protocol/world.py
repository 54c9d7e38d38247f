"""Who and what there is in one search: a small world, rich in one way. A bug of such a protocol needs few actors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.protocol.state import MISSING, Database, Reader, Redis, Saver, State

Step = tuple[str, State]
Steps = Iterator[Step]


class Stale(Exception):
    """Somebody is served what the protocol promises to keep from them."""


@dataclass(frozen=True)
class World:
    """``savers``: the tags of each. ``hangs``: on how many of the ``tags`` the answer hangs, the first of them.

    ``look``: what a reader reads first on a cluster, where entry and stamps are on two servers; together on one.
    ``in_use``: the tags have stamps already. ``evictions``: how many keys may vanish, leases included.
    ``homes``: the processes of savers and readers; with those of savers, Redis can be out of a process's reach.
    ``opinions``: what savers and readers take the same server for, 0 or 1: it tells some of them something else.
    """

    savers: tuple[tuple[int, ...], ...]
    readers: tuple[str, ...] = ("plain", "plain")
    tags: int = 1
    hangs: int = 1
    in_use: bool = False
    look: str = "together"  # or "entry first", "stamps first"
    evictions: int = 0
    restarts: int = 0
    expires: bool = False
    compacts: bool = False
    transactions: bool = False
    homes_of_savers: tuple[int, ...] = ()
    homes_of_readers: tuple[int, ...] = ()
    opinions_of_savers: tuple[int, ...] = ()
    opinions_of_readers: tuple[int, ...] = ()
    mistake: str = ""

    def start(self) -> State:
        nothing = (MISSING,) * self.tags
        stamps = tuple(range(1, self.tags + 1)) if self.in_use else nothing
        savers = self.homes_of_savers or (0,) * len(self.savers)
        readers = self.homes_of_readers or (0,) * len(self.readers)
        processes = max(savers + readers) + 1 if self.homes_of_savers else 0
        theirs = self.opinions_of_savers or (0,) * len(savers), self.opinions_of_readers or (0,) * len(readers)
        places = zip(self.savers, savers, theirs[0], strict=True), zip(self.readers, readers, theirs[1], strict=True)
        return State(
            Database(0, (0,) * self.tags, (0,) * self.tags),
            Redis(stamps, (0,) * self.tags),
            tuple(Saver(tags, home, opinion=opinion) for tags, home, opinion in places[0]),
            tuple(Reader(kind, home, opinion=opinion) for kind, home, opinion in places[1]),
            breakers=("up",) * processes,
            owed=(0,) * processes,
            apart=Redis(nothing, (0,) * self.tags) if self.mistake == "keyed_epoch" else None,
            remembered=nothing if self.mistake == "remembered_stamp" else (),
            evictions=self.evictions,
            restarts=self.restarts,
            fresh=self.tags + 1,
        )


def reached(state: State, epoch: int) -> Redis:
    return state.redis if state.apart is None or epoch == state.epoch else state.apart


def changed(state: State, epoch: int, redis: Redis) -> State:
    """With another memory of the server that is ``reached``."""
    if state.apart is None or epoch == state.epoch:
        return state._replace(redis=redis)
    return state._replace(apart=redis)


def stamped(state: State, tag: int, epoch: int, value: int = MISSING) -> State:
    """With a stamp that was never seen before (or ``value``)."""
    redis = reached(state, epoch).put(tag, value or state.fresh, epoch)
    return changed(state, epoch, redis)._replace(fresh=state.fresh + 1)


def invalidated(state: State, world: World, tag: int, epoch: int, drawn: int = MISSING) -> State:
    """SET … XX, whatever epoch the stamp is of that stands.

    No stamp is made where none stands: what hung on it is dead already, and whoever makes it draws it.
    """
    redis = reached(state, epoch)
    if world.mistake == "deletes":
        return changed(state, epoch, redis.put(tag, MISSING))
    if redis.stamps[tag] == MISSING and world.mistake != "sets_always":
        return state
    if redis.epochs[tag] != epoch and world.mistake == "spares_strangers":
        return state
    return stamped(state, tag, epoch, drawn if world.mistake == "old_stamp" else MISSING)
