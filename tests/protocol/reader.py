"""Readers: look, and capture; who finds nothing goes on in ``leader.py``. The steps of ``aicache/core/flow.py``.

A reader whose breaker is open calls for itself and changes nothing; so does one whose server is gone. One who asks
under a name (an idempotency key) asks the database first what is pinned to it.
"""

from __future__ import annotations

from tests.protocol import leader
from tests.protocol.copies import found, generations, lives
from tests.protocol.promise import floor, pinned, serve
from tests.protocol.state import MISSING, Entry, Reader, Redis, Stamps, State
from tests.protocol.world import Steps, World, drawn, fits, reached, seen


def expected(state: State) -> bool:
    """Whether anybody may still be served an answer that is not its own."""
    return any(not reader.served and reader.step not in ("done", "called", "checked") for reader in state.readers)


def steps(state: State, world: World) -> Steps:
    for at, reader in enumerate(state.readers):
        match reader.step:
            case "idle":
                yield from _begins(state, world, at, reader)
            case "done":
                pass
            case _ if _is_cut_off(state, world, reader):
                alone = leader.cut_off(state, world, at, reader)
                yield f"reader {at} has lost its server, and calls for itself", alone
            case "claimed":
                yield from _claims(state, world, at, reader)
            case "met":
                yield from _looks(state, world, at, reader)
            case "half":
                yield from _looks_again(state, world, at, reader)
            case "looked":
                known = reader._replace(generations=generations(state, world))
                yield from _judges(state, world, at, known, "reads the generations, and ")
            case "missing":
                yield from _captures(state, world, at, reader)
            case _:
                yield from leader.steps(state, world, at, reader)


def _begins(state: State, world: World, at: int, reader: Reader) -> Steps:
    if reader.kind == "inside":
        if not any(saver.step == "open" for saver in state.savers):
            return
        if world.mistake not in ("stores_inside", "reads_inside"):
            alone = state.with_reader(at, reader, step="done")
            yield f"reader {at}, inside the transaction, calls for itself", alone
            return
    if state.breakers and state.breakers[reader.home] != "up":
        return
    if world.mistake == "old_snapshot" and reader.counted is None:
        snapshot = state.with_reader(at, reader, counted=generations(state, world))
        yield f"reader {at} opens a transaction, and has a snapshot of the database", snapshot
    if world.pins:
        claims = reader._replace(step="claimed", floor=floor(state, reader))
        yield f"reader {at} finds nothing pinned", state.with_reader(at, claims)
        for pin in found(state):
            said = f"reader {at} finds version {pin.version} pinned"
            yield said, state.with_reader(at, claims, copy=pin)
    else:
        yield from _connects(state, world, at, reader)


def _claims(state: State, world: World, at: int, reader: Reader) -> Steps:
    """The generations are counted after the row is read. A pin of others is as none: there is no put-back."""
    pin, reader = reader.copy, reader._replace(counted=generations(state, world), copy=None)
    if pin and lives(pin, reader):
        said = f"reader {at} counts the generations, and takes what is pinned"
        yield said, serve(state, world, at, reader, pin, "a pin")
    else:
        yield from _connects(state, world, at, reader)


def _connects(state: State, world: World, at: int, reader: Reader) -> Steps:
    reader = reader._replace(epoch=state.epoch + reader.opinion)
    if world.mistake in ("epoch_unbound", "old_primary", "demoted_primary"):
        yield f"reader {at} connects, and learns the epoch", state.with_reader(at, reader, step="met")
    else:
        yield from _looks(state, world, at, reader)


def _is_cut_off(state: State, world: World, reader: Reader) -> bool:
    """A connection belongs to the server that it met. What is asked on it fails when that is gone."""
    if reader.epoch >= state.epoch or world.mistake in ("epoch_unbound", "old_primary"):
        return False
    if reader.step in ("claimed", "led", "recalled", "counted", "calling"):  # nothing is asked of Redis
        return False
    return world.mistake != "demoted_primary" or reader.step not in ("met", "half", "looked")  # it refuses to write


def _looks(state: State, world: World, at: int, reader: Reader) -> Steps:
    """Here the request begins: what must not be served to it is settled now."""
    reader = reader._replace(floor=floor(state, reader))
    redis = _asked(state, world, reader)
    stamps = seen(redis, world, reader)
    if reader.kind == "inside" and world.mistake == "stores_inside":
        missing = MISSING in stamps
        captured = reader._replace(step="missing" if missing else "captured", stamps=stamps)
        yield f"reader {at}, inside the transaction, looks", state.with_reader(at, captured)
    elif world.look == "entry first":
        yield f"reader {at} reads the entry", state.with_reader(at, reader, step="half", found=redis.entry)
    elif world.look == "stamps first":
        yield f"reader {at} reads the stamps", state.with_reader(at, reader, step="half", stamps=stamps)
    else:
        yield from _has_both(state, world, at, reader._replace(stamps=stamps, found=redis.entry), "looks, and ")


def _asked(state: State, world: World, reader: Reader) -> Redis:
    if world.mistake == "reads_replica" and state.older:
        return state.older
    return reached(state, reader.epoch)


def _looks_again(state: State, world: World, at: int, reader: Reader) -> Steps:
    redis = _asked(state, world, reader)
    if world.look == "entry first":
        both = reader._replace(stamps=seen(redis, world, reader))
        yield from _has_both(state, world, at, both, "reads the stamps, and ")
    else:
        yield from _has_both(state, world, at, reader._replace(found=redis.entry), "reads the entry, and ")


def _has_both(state: State, world: World, at: int, reader: Reader, said: str) -> Steps:
    if reader.kind == "strict" and MISSING not in reader.stamps:
        yield f"reader {at} {said}finds all stamps", state.with_reader(at, reader, step="looked")
    else:
        yield from _judges(state, world, at, reader, said)


def _judges(state: State, world: World, at: int, reader: Reader, said: str) -> Steps:
    entry, reader = reader.found, reader._replace(found=None)
    step = "missing" if MISSING in reader.stamps else "captured"
    if entry is None or not _hits(entry, reader, world):
        yield f"reader {at} {said}misses", state.with_reader(at, reader, step=step)
    elif not entry.expired:
        yield f"reader {at} {said}hits", serve(state, world, at, reader, entry, "a hit")
    else:
        served = serve(state, world, at, reader, entry, "an expired answer")
        yield f"reader {at} {said}takes the expired answer", served
        renews = pinned(state, world, entry).with_reader(at, reader, step=step, served=True)
        yield f"reader {at} {said}takes the expired answer, to renew it", renews


def _hits(entry: Entry, reader: Reader, world: World) -> bool:
    match world.mistake:
        case "stale_unchecked" if entry.expired:
            return True
        case "tenant_only":
            return entry.stamps[0] == reader.stamps[0] != MISSING
        case "missing_matches":
            pairs = zip(entry.stamps, reader.stamps, strict=True)
            return all(stamp in (MISSING, kept) for kept, stamp in pairs)
        case "strict_by_stamps":
            return entry.stamps == reader.stamps
    return fits(entry, reader)


def _captures(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: a fresh value for each stamp that is missing or of another epoch than the reader's, then all."""
    state = drawn(state, world, reader)
    stamps = seen(reached(state, reader.epoch), world, reader)
    state = _remember(state, stamps)
    step = "looked" if reader.kind == "strict" else "captured"
    yield f"reader {at} captures all stamps", state.with_reader(at, reader, step=step, stamps=stamps)


def _remember(state: State, stamps: Stamps) -> State:
    return state._replace(remembered=stamps) if state.remembered else state
