"""What there is at one moment: the database, Redis, and where each actor stands. All of it plain values.

Stamps are random in the code: only which of them are equal matters. Here they are numbers, renamed by their first
appearance, so that states which differ in nothing else are one.
"""

from __future__ import annotations

from operator import eq
from typing import NamedTuple

MISSING = 0
FIXED = -1
"""A stamp that is always the same: a mistake."""
UNCOMMITTED = -1
"""The version of an answer that was made inside a transaction, from what nobody else may see."""
YET_TO_BEGIN = ("idle", "claimed", "met")
"""The steps of readers that have not looked: what they may be given is not settled."""

Stamps = tuple[int, ...]
Generations = tuple[int, ...]


class Entry(NamedTuple):
    """An answer that is kept, with what was captured before its call."""

    version: int
    stamps: Stamps
    generations: Generations | None = None  # where its leader counted them
    expired: bool = False  # by time, inside its stale-while-revalidate window


class Copy(NamedTuple):
    """An answer that the database keeps, with the generations that were counted before its call; None for a mistake."""

    version: int
    generations: Generations | None


class Redis(NamedTuple):
    """The memory of one server. ``epochs``: by tag, what who drew its stamp took this server for. ``mark``: the
    answer's own, which a purge takes away.

    Stamps are never equal, so an entry's need no epochs. Leases are their holders' (``Reader.leased``).
    """

    stamps: Stamps
    epochs: tuple[int, ...]
    entry: Entry | None = None
    mark: int = MISSING

    def put(self, tag: int, stamp: int, epoch: int = 0) -> Redis:
        stamps = (*self.stamps[:tag], stamp, *self.stamps[tag + 1 :])
        return self._replace(stamps=stamps, epochs=(*self.epochs[:tag], epoch, *self.epochs[tag + 1 :]))

    def seen(self, epoch: int) -> Stamps:
        """A stamp of another epoch counts as missing."""
        if self.epochs.count(epoch) == len(self.epochs):
            return self.stamps
        pairs = zip(self.stamps, self.epochs, strict=True)
        return tuple([stamp if drawn_in == epoch else MISSING for stamp, drawn_in in pairs])


class Row(NamedTuple):
    """A pending row of the outbox. ``drawn`` is for a mistake."""

    version: int
    tag: int
    drawn: int = MISSING


class Database(NamedTuple):
    """What is committed. ``copies``: those that were ever handed over to be written, see ``copies.py``."""

    version: int
    rows: tuple[int, ...]  # by tag, the answer's own last: rows of the outbox that stand
    folded: tuple[int, ...]  # by tag: rows that compaction has deleted
    pending: tuple[Row, ...] = ()
    copies: tuple[Copy, ...] = ()
    folding: tuple[int, int] | None = None  # (tag, rows) of a compaction that stopped half-way: a mistake


class Saver(NamedTuple):
    """Changes the document that the answers are made from. ``at``: how many of its tags are stamped.

    ``opinion``: see ``World``. ``epoch``: that of its connection to Redis, for a variant.
    """

    tags: tuple[int, ...]
    home: int = 0  # its process
    step: str = "idle"
    version: int = 0
    at: int = 0
    opinion: int = 0
    epoch: int = 0


class Reader(NamedTuple):
    """Asks the one question. ``floor``: the oldest version it may be given. The rest is what it has learnt so far."""

    kind: str = "plain"  # or "strict", or "inside": in the open transaction of the first saver
    home: int = 0
    step: str = "idle"
    floor: int = 0
    stamps: Stamps = ()
    generations: Generations | None = None
    counted: Generations | None = None  # by who recalls, before its call
    copy: Copy | None = None
    version: int = 0
    leased: bool = False
    mark: int = MISSING  # that of its lease, or of the lease that it waits for
    served: bool = False  # has its answer, and only renews it for others
    found: Entry | None = None  # by a look that is not yet complete
    opinion: int = 0
    epoch: int = 0  # that of its connection to Redis


class State(NamedTuple):
    database: Database
    redis: Redis
    savers: tuple[Saver, ...]
    readers: tuple[Reader, ...]
    acknowledged: int = 0
    breakers: tuple[str, ...] = ()  # by process: "up", "down", "drained"
    owed: tuple[int, ...] = ()  # by process: the version that its savers could not stamp
    older: Redis | None = None  # a snapshot on disk, or what a lagging replica has
    epoch: int = 0  # of the server as it runs now; who holds the other opinion of it counts one more
    apart: Redis | None = None  # what is reached instead by who holds another epoch: for mistakes and limits
    remembered: Stamps = ()  # the last stamp that anybody saw, for a mistake
    evictions: int = 0
    restarts: int = 0
    fresh: int = 1

    def with_reader(self, at: int, reader: Reader, **changes: object) -> State:
        if changes:
            reader = reader._replace(**changes)  # type: ignore[arg-type]
        return self._replace(readers=(*self.readers[:at], reader, *self.readers[at + 1 :]))


def canonical(state: State, sorts: bool) -> State:
    """The state that stands for all those that differ only in names. ``sorts``: actors that are alike may swap."""
    if sorts:
        savers, readers = tuple(sorted(state.savers)), tuple(sorted(state.readers, key=_place))
        if savers != state.savers or readers != state.readers:
            state = state._replace(savers=savers, readers=readers)
    matters = state.acknowledged or any(state.owed)  # to who is yet to begin
    if matters and not any(reader.step in YET_TO_BEGIN for reader in state.readers):
        state = state._replace(acknowledged=0, owed=(0,) * len(state.owed))
    names = {MISSING: MISSING, FIXED: FIXED}
    for stamp in _all_stamps(state):
        if stamp not in names:
            names[stamp] = len(names)
    if all(map(eq, names, names.values())):
        return state if state.fresh == len(names) else state._replace(fresh=len(names))
    return _renamed(state, names)


def _all_stamps(state: State) -> list[int]:
    """In an order that depends on no stamp's number."""
    found = [*state.redis.stamps, state.redis.mark, *state.remembered]
    for entry in (state.redis.entry, *(reader.found for reader in state.readers)):
        if entry:
            found += entry.stamps
    for reader in state.readers:
        found += reader.stamps
        found.append(reader.mark)
    for keys in (state.older, state.apart):
        if keys:
            found += keys.stamps
            found.append(keys.mark)
            found += keys.entry.stamps if keys.entry else ()
    found += [row.drawn for row in state.database.pending]
    return found


def _renamed(state: State, names: dict[int, int]) -> State:
    def name(stamps: Stamps) -> Stamps:
        return tuple([names[stamp] for stamp in stamps])

    def kept(entry: Entry | None) -> Entry | None:
        return entry and entry._replace(stamps=name(entry.stamps))

    def keys(redis: Redis) -> Redis:
        return redis._replace(stamps=name(redis.stamps), entry=kept(redis.entry), mark=names[redis.mark])

    database = state.database
    if any(row.drawn for row in database.pending):
        pending = tuple([row._replace(drawn=names[row.drawn]) for row in database.pending])
        database = database._replace(pending=pending)
    return state._replace(
        database=database,
        redis=keys(state.redis),
        readers=tuple(
            [
                reader._replace(stamps=name(reader.stamps), found=kept(reader.found), mark=names[reader.mark])
                if reader.stamps or reader.found
                else reader
                for reader in state.readers
            ]
        ),
        older=state.older and keys(state.older),
        apart=state.apart and keys(state.apart),
        remembered=name(state.remembered),
        fresh=len(names),
    )


def _place(reader: Reader) -> tuple[object, ...]:
    return (
        reader.kind,
        reader.home,
        reader.opinion,
        reader.step,
        reader.floor,
        reader.version,
        reader.leased,
        reader.served,
        reader.generations or (),
        reader.counted or (),
        reader.copy or (),
    )
