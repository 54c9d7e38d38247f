"""Who and what there is in one search: a small world, rich in one way. A bug of such a protocol needs few actors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.protocol.state import FIXED, MISSING, Copy, Database, Entry, Reader, Redis, Saver, Stamps, State

Step = tuple[str, State]
Steps = Iterator[Step]

ITSELF = -1
"""The answer's own tag, among those of a saver, who then purges it."""


@dataclass(frozen=True)
class World:
    """``savers``: the tags of each. ``hangs``: on how many of the ``tags`` the answer hangs, the first of them.

    ``look``: what a reader reads first on a cluster, where entry and stamps are on two servers; together on one.
    ``in_use``: the tags have stamps already. ``evictions``: how many keys may vanish, leases included.
    ``copies``: which of its two queries a leader makes first; "" where the database keeps none. ``kept``: it has one
    already. ``pins``: all readers ask under the same name, an idempotency key.
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
    copies: str = ""  # or "row first", "count first"
    kept: bool = False
    pins: bool = False
    homes_of_savers: tuple[int, ...] = ()
    homes_of_readers: tuple[int, ...] = ()
    opinions_of_savers: tuple[int, ...] = ()
    opinions_of_readers: tuple[int, ...] = ()
    mistake: str = ""

    @cached_property
    def own(self) -> int:
        """The answer's own tag. It has no stamp."""
        return self.tags

    @cached_property
    def purges(self) -> bool:
        return any(ITSELF in tags for tags in self.savers)

    @cached_property
    def counted(self) -> tuple[int, ...]:
        """The tags whose generations an answer hangs on."""
        return (*range(self.hangs), *([self.own] if self.purges else []))

    def start(self) -> State:
        nothing = (MISSING,) * self.tags
        stamps = tuple(range(1, self.tags + 1)) if self.in_use else nothing
        savers = self.homes_of_savers or (0,) * len(self.savers)
        readers = self.homes_of_readers or (0,) * len(self.readers)
        processes = max(savers + readers) + 1 if self.homes_of_savers else 0
        theirs = self.opinions_of_savers or (0,) * len(savers), self.opinions_of_readers or (0,) * len(readers)
        dying = [tuple(self.own if tag == ITSELF else tag for tag in tags) for tags in self.savers]
        places = zip(dying, savers, theirs[0], strict=True), zip(self.readers, readers, theirs[1], strict=True)
        none = (0,) * (self.tags + 1)
        return State(
            Database(0, none, none, copies=(Copy(0, (0,) * len(self.counted)),) if self.kept else ()),
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


def seen(redis: Redis, world: World, reader: Reader) -> Stamps:
    stamps = redis.stamps if world.mistake == "any_epoch" else redis.seen(reader.epoch)
    return stamps[: world.hangs]


def fits(entry: Entry, reader: Reader) -> bool:
    """Each stamp stands and is the one that the entry was kept with; for a strict reader each generation too."""
    if MISSING in reader.stamps or entry.stamps != reader.stamps:
        return False
    return reader.generations is None or entry.generations == reader.generations


def drawn(state: State, world: World, reader: Reader) -> State:
    """With a stamp for each tag of which the reader sees none."""
    for tag, stamp in enumerate(seen(reached(state, reader.epoch), world, reader)):
        if stamp == MISSING:
            value = MISSING
            if world.mistake == "zero_stamp":
                value = FIXED
            elif world.mistake == "remembered_stamp":
                value = state.remembered[tag]
            state = stamped(state, tag, reader.epoch, value)
    return state


def marked(state: State, epoch: int) -> State:
    """With a mark that was never seen before."""
    redis = reached(state, epoch)._replace(mark=state.fresh)
    return changed(state, epoch, redis)._replace(fresh=state.fresh + 1)


def does(world: World, tag: int) -> str:
    """What it is to apply an invalidation of a tag."""
    return "deletes the entry and its mark" if tag == world.own else f"stamps tag {tag}"


def invalidated(state: State, world: World, tag: int, epoch: int, was_drawn: int = MISSING) -> State:
    """SET … XX, whatever epoch the stamp is of that stands. Of the answer's own tag: DEL, at once, of entry and mark.

    No stamp is made where none stands: what hung on it is dead already, and whoever makes it draws it.
    """
    redis = reached(state, epoch)
    if tag == world.own:
        mark = redis.mark if world.mistake == "mark_stays" else MISSING
        return changed(state, epoch, redis._replace(entry=None, mark=mark))
    if world.mistake == "deletes":
        return changed(state, epoch, redis.put(tag, MISSING))
    if redis.stamps[tag] == MISSING and world.mistake != "sets_always":
        return state
    if redis.epochs[tag] != epoch and world.mistake == "spares_strangers":
        return state
    return stamped(state, tag, epoch, was_drawn if world.mistake == "old_stamp" else MISSING)
