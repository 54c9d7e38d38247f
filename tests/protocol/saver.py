"""Savers: change the document and write their rows, commit, stamp tag by tag, return.

A saver that is killed is one that takes no further step: nobody waits for it.
"""

from __future__ import annotations

from tests.protocol.state import MISSING, Row, Saver, State
from tests.protocol.world import Steps, World, changed, does, invalidated, reached


def steps(state: State, world: World) -> Steps:
    for at, saver in enumerate(state.savers):
        step = saver.step
        if step == "idle" and world.mistake == "saver_unbound":
            met = _now(state, at, saver, step="met", epoch=state.epoch + saver.opinion)
            yield f"saver {at} connects, and learns the epoch", met
        elif step in ("idle", "met"):
            yield from _begins(state, world, at, saver)
        elif step == "open":
            yield f"saver {at} commits version {state.database.version + 1}", _commits(state, world, at, saver)
            yield f"saver {at} rolls back", _now(state, at, saver, step="done")
        elif step == "bare":
            yield f"saver {at} is killed before it writes its rows", _now(state, at, saver, step="done")
            yield f"saver {at} writes its rows", _writes(state, world, at, saver, saver.version)
        elif step in ("committed", "halved"):
            yield from _applies(state, world, at, saver)
        elif step == "stamped":
            left = tuple(row for row in state.database.pending if row.version != saver.version)
            returned = _now(state, at, saver, step="done")._replace(
                database=state.database._replace(pending=left),
                acknowledged=max(state.acknowledged, saver.version),
            )
            yield f"saver {at} marks its rows, and returns", returned
        elif step == "early":
            committed = _commits(state, world, at, saver)
            yield (
                f"saver {at} commits version {state.database.version + 1}",
                _now(committed, at, committed.savers[at], step="stamped"),
            )


def _begins(state: State, world: World, at: int, saver: Saver) -> Steps:
    version = state.database.version + 1
    if world.transactions:
        yield f"saver {at} changes the document in a transaction", _now(state, at, saver, step="open")
    elif world.mistake == "autocommit":
        bare = state._replace(database=state.database._replace(version=version))
        yield (
            f"saver {at} commits version {version}, its rows not yet",
            _now(bare, at, saver, step="bare", version=version),
        )
    elif world.mistake == "early_stamp":
        early = state
        for tag in saver.tags:
            early = invalidated(early, world, tag, state.epoch + saver.opinion)
        yield f"saver {at} stamps, and commits later", _now(early, at, saver, step="early")
    elif world.mistake in ("purge_in_redis", "uncounted_purge") and world.own in saver.tags:
        yield from _purges(state, world, at, saver, version)
    else:
        yield f"saver {at} commits {_said(world, saver, version)}", _commits(state, world, at, saver)


def _said(world: World, saver: Saver, version: int) -> str:
    if world.own in saver.tags:
        return f"the purge of what is older than version {version}"
    return f"version {version}" if _concerns(world, saver) else "something else"


def _purges(state: State, world: World, at: int, saver: Saver, version: int) -> Steps:
    """Without a row, so that nothing counts it."""
    gone = state._replace(acknowledged=version, database=state.database._replace(version=version))
    gone = invalidated(gone, world, world.own, state.epoch + saver.opinion)
    said = does(world, world.own)
    if world.mistake == "uncounted_purge":
        gone, said = gone._replace(database=gone.database._replace(copies=())), f"{said}, and the copy"
    yield f"saver {at} {said}, as of version {version}, and returns", _now(gone, at, saver, step="done")


def _commits(state: State, world: World, at: int, saver: Saver) -> State:
    """The document, its rows and with them the generations become visible together."""
    version = state.database.version + _concerns(world, saver)
    state = state._replace(database=state.database._replace(version=version))
    if world.mistake == "ack_first":
        state = state._replace(acknowledged=version)
    return _writes(state, world, at, saver, version)


def _concerns(world: World, saver: Saver) -> bool:
    return min(saver.tags) < world.hangs or world.own in saver.tags


def _writes(state: State, world: World, at: int, saver: Saver, version: int) -> State:
    rows = tuple(count + (tag in saver.tags) for tag, count in enumerate(state.database.rows))
    draws = world.mistake == "old_stamp"
    written = [Row(version, tag, state.fresh + tag if draws else MISSING) for tag in saver.tags]
    database = state.database._replace(rows=rows, pending=(*state.database.pending, *written))
    state = state._replace(database=database, fresh=state.fresh + len(rows))
    return _now(state, at, saver, step="committed", version=version)


def _applies(state: State, world: World, at: int, saver: Saver) -> Steps:
    if state.breakers:
        yield from _cannot(state, world, at, saver)
        if state.breakers[saver.home] != "up":
            return
    tag = saver.tags[saver.at]
    epoch = saver.epoch if world.mistake == "saver_unbound" else state.epoch + saver.opinion
    drawn = [row.drawn for row in state.database.pending if row.version == saver.version and row.tag == tag]
    if world.mistake == "split_purge" and tag == world.own:
        yield from _halves(state, at, saver, epoch)
        return
    applied = invalidated(state, world, tag, epoch, *drawn)
    last = saver.at + 1 == len(saver.tags)
    yield (
        f"saver {at} {does(world, tag)}",
        _now(applied, at, saver, step="stamped" if last else "committed", at=saver.at + 1),
    )


def _halves(state: State, at: int, saver: Saver, epoch: int) -> Steps:
    redis = reached(state, epoch)
    if saver.step == "committed":
        half = changed(state, epoch, redis._replace(entry=None))
        yield f"saver {at} deletes the entry", _now(half, at, saver, step="halved")
    else:
        whole = changed(state, epoch, redis._replace(mark=MISSING))
        yield f"saver {at} deletes its mark", _now(whole, at, saver, step="stamped")


def _cannot(state: State, world: World, at: int, saver: Saver) -> Steps:
    """Pending, not acknowledged; the breaker opens. Its own process does not trust Redis until that is made up for."""
    home = saver.home
    breaker = state.breakers[home]
    if breaker == "up" or world.mistake != "drain_forgets":
        breaker = "down"
    gone = state._replace(
        breakers=(*state.breakers[:home], breaker, *state.breakers[home + 1 :]),
        owed=(*state.owed[:home], max(state.owed[home], saver.version), *state.owed[home + 1 :]),
    )
    if world.mistake == "ack_unstamped":
        gone = gone._replace(acknowledged=max(gone.acknowledged, saver.version))
    yield f"saver {at} cannot reach Redis, and returns", _now(gone, at, saver, step="done")


def _now(state: State, which: int, saver: Saver, **changes: object) -> State:
    savers = state.savers
    return state._replace(savers=(*savers[:which], saver._replace(**changes), *savers[which + 1 :]))  # type: ignore[arg-type]
