"""What happens to Redis: keys vanish, time passes, the server comes back with another memory."""

from __future__ import annotations

from tests.protocol.state import MISSING, Redis, State
from tests.protocol.world import Steps, World


def steps(state: State, world: World) -> Steps:
    redis = state.redis
    if state.evictions:
        left = state.evictions - 1
        for tag, stamp in enumerate(redis.stamps):
            if stamp:
                forgotten = redis.put(tag, MISSING)
                yield f"Redis evicts the stamp of tag {tag}", state._replace(redis=forgotten, evictions=left)
        if redis.mark:
            yield "Redis evicts the mark", state._replace(redis=redis._replace(mark=MISSING), evictions=left)
        if redis.entry:
            yield "Redis evicts the entry", state._replace(redis=redis._replace(entry=None), evictions=left)
        for at, reader in enumerate(state.readers):
            if reader.leased:
                readers = (*state.readers[:at], reader._replace(leased=False), *state.readers[at + 1 :])
                yield f"the lease of reader {at} ends early", state._replace(readers=readers, evictions=left)
    if world.expires and redis.entry and not redis.entry.expired:
        yield "the entry expires", state._replace(redis=redis._replace(entry=redis.entry._replace(expired=True)))
    if state.restarts:
        if state.older is None:
            yield "a snapshot of Redis is taken, or a replica falls behind", state._replace(older=redis)
        yield from _restarts(state, world)
    if world.mistake == "demoted_primary" and state.apart:
        yield "the primary that was demoted catches up with its successor", state._replace(apart=redis)


def _restarts(state: State, world: World) -> Steps:
    """Another run of the server, or another server, with any older memory: another identity, so another epoch.

    Who is connected loses the connection, but for mistakes and limits.
    """
    left = state.restarts - 1
    back = state._replace(restarts=left, older=state.older if left else None, epoch=state.epoch + 2)
    match world.mistake:
        case "old_primary":
            said = "a replica is promoted, a new epoch, and the old primary goes on alone"
            yield said, back._replace(apart=state.redis)
        case "demoted_primary":
            said = "a replica is promoted, a new epoch, and the old primary is made a replica that keeps its clients"
            yield said, back._replace(apart=state.redis)
        case "slot_returns":
            if state.older:
                said = "the stamps move to another node, are lost there in part, and move back: the epoch from before"
                yield said, back._replace(redis=state.older, epoch=state.epoch)
        case "trust_snapshot":
            yield from _memories(state, world, back._replace(epoch=state.epoch), "the same epoch")
        case _:
            yield from _memories(state, world, back, "a new epoch")


def _memories(state: State, world: World, back: State, said: str) -> Steps:
    nothing = Redis((MISSING,) * world.tags, (0,) * world.tags)
    yield f"Redis comes back empty: {said}", back._replace(redis=nothing)
    if state.older:
        yield f"Redis comes back as it was then: {said}", back._replace(redis=state.older)
