"""The drain: makes up for savers that were killed or could not reach Redis. And the compaction of the outbox."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.state import State
from tests.protocol.world import Steps, World, does, invalidated


def steps(state: State, world: World) -> Steps:
    if state.database.pending:
        yield from _drains(state, world)
    for home, breaker in enumerate(state.breakers):
        if breaker != "up":
            yield from _recovers(state, world, home, breaker)
    if world.compacts:
        yield from _compacts(state, world)


def _drains(state: State, world: World) -> Steps:
    row, *left = state.database.pending
    marked = state._replace(database=state.database._replace(pending=tuple(left)))
    if all(other.version != row.version for other in left):
        marked = marked._replace(acknowledged=max(state.acknowledged, row.version))
    if world.mistake == "mark_first":
        yield f"the drain marks tag {row.tag} of version {row.version} and is killed", marked
    for epoch, who in _epochs(state, world):
        applied = invalidated(state, world, row.tag, epoch, row.drawn)
        yield f"{who} {does(world, row.tag)} for version {row.version} and is killed", applied
        yield (
            f"{who} {does(world, row.tag)} for version {row.version} and marks its row",
            applied._replace(database=marked.database, acknowledged=marked.acknowledged),
        )


def _epochs(state: State, world: World) -> Iterator[tuple[int, str]]:
    """What a process that drains takes the server for."""
    yield state.epoch, "the drain"
    if any(world.opinions_of_savers + world.opinions_of_readers):
        yield state.epoch + 1, "a drain of the other opinion"


def _recovers(state: State, world: World, home: int, breaker: str) -> Steps:
    """Redis answers again: the process drains, and closes its breaker only if none was turned away meanwhile."""

    def now(state: State, breaker: str) -> State:
        return state._replace(breakers=(*state.breakers[:home], breaker, *state.breakers[home + 1 :]))

    if breaker == "drained" or world.mistake == "trust_at_once":
        yield f"process {home} trusts Redis again", now(state, "up")
    if breaker == "down":
        rows, left = state.database.pending, ()
        if world.mistake == "undrained_database":
            rows, left = tuple(row for row in rows if row.tag == 0), tuple(row for row in rows if row.tag)
        drained = state
        for row in rows:
            drained = invalidated(drained, world, row.tag, state.epoch, row.drawn)
        versions = {row.version for row in rows} - {row.version for row in left}
        drained = drained._replace(
            database=drained.database._replace(pending=left), acknowledged=max([state.acknowledged, *versions])
        )
        yield f"process {home} finds Redis back, and drains", now(drained, "drained")


def _compacts(state: State, world: World) -> Steps:
    """Applied rows are deleted and their number is added to the base: in one transaction, so no generation changes."""
    database = state.database
    if database.folding:
        tag, count = database.folding
        folded = tuple(base + count * (other == tag) for other, base in enumerate(database.folded))
        yield (
            f"compaction adds {count} to the base of tag {tag}",
            state._replace(database=database._replace(folded=folded, folding=None)),
        )
        return
    for tag, standing in enumerate(database.rows):
        count = standing - sum(row.tag == tag for row in database.pending)
        if not count:
            continue
        rows = tuple(number - count * (other == tag) for other, number in enumerate(database.rows))
        if world.mistake == "split_compaction":
            yield (
                f"compaction deletes {count} rows of tag {tag}",
                state._replace(database=database._replace(rows=rows, folding=(tag, count))),
            )
            continue
        folded = tuple(base + count * (other == tag) for other, base in enumerate(database.folded))
        yield (
            f"compaction folds {count} rows of tag {tag}",
            state._replace(database=database._replace(rows=rows, folded=folded)),
        )
