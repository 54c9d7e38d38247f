"""Readers: look, capture, lead or wait, call, compare, store. The steps are those of ``aicache/core/flow.py``.

A call upstream starts in the step in which its reader takes the lead: one that starts later sees a newer document, and
does less harm. A reader whose breaker is open calls for itself and changes nothing; so does one whose server is gone.
"""

from __future__ import annotations

from tests.protocol.state import FIXED, MISSING, UNCOMMITTED, Entry, Generations, Reader, Redis, Stamps, State
from tests.protocol.world import Stale, Steps, World, changed, reached, stamped


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
                told = _told(state, world, at, reader) if reader.step in ("called", "checked") else state
                yield f"reader {at} has lost its server, and calls for itself", _ends(told, at, reader)
            case "met":
                yield from _looks(state, world, at, reader)
            case "half":
                yield from _looks_again(state, world, at, reader)
            case "looked":
                known = reader._replace(generations=_generations(state, world))
                yield from _judges(state, world, at, known, "reads the generations, and ")
            case "missing":
                yield from _captures(state, world, at, reader)
            case "captured" | "waiting":
                yield from _leads(state, world, at, reader)
            case "called":
                yield from _compares(state, world, at, reader)
            case "checked":
                yield from _stores(state, world, at, reader)


def _begins(state: State, world: World, at: int, reader: Reader) -> Steps:
    if reader.kind == "inside":
        if not any(saver.step == "open" for saver in state.savers):
            return
        if world.mistake not in ("stores_inside", "reads_inside"):
            yield f"reader {at}, inside the transaction, calls for itself", _now(state, at, reader, step="done")
            return
    if state.breakers and state.breakers[reader.home] != "up":
        return
    reader = reader._replace(epoch=state.epoch + reader.opinion)
    if world.mistake in ("epoch_unbound", "old_primary", "demoted_primary"):
        yield f"reader {at} connects, and learns the epoch", _now(state, at, reader, step="met")
    else:
        yield from _looks(state, world, at, reader)


def _is_cut_off(state: State, world: World, reader: Reader) -> bool:
    """A connection belongs to the server that it met. What is asked on it fails when that is gone."""
    if reader.epoch >= state.epoch or world.mistake in ("epoch_unbound", "old_primary"):
        return False
    return world.mistake != "demoted_primary" or reader.step not in ("met", "half", "looked")  # it refuses to write


def _looks(state: State, world: World, at: int, reader: Reader) -> Steps:
    """Here the request begins: what must not be served to it is settled now."""
    reader = reader._replace(floor=_floor(state, reader))
    redis = _asked(state, world, reader)
    stamps = _seen(redis, world, reader)
    if reader.kind == "inside" and world.mistake == "stores_inside":
        missing = MISSING in stamps
        captured = reader._replace(step="missing" if missing else "captured", stamps=stamps)
        yield f"reader {at}, inside the transaction, looks", _now(state, at, captured)
    elif world.look == "entry first":
        yield f"reader {at} reads the entry", _now(state, at, reader, step="half", found=redis.entry)
    elif world.look == "stamps first":
        yield f"reader {at} reads the stamps", _now(state, at, reader, step="half", stamps=stamps)
    else:
        yield from _has_both(state, world, at, reader._replace(stamps=stamps, found=redis.entry), "looks, and ")


def _asked(state: State, world: World, reader: Reader) -> Redis:
    if world.mistake == "reads_replica" and state.older:
        return state.older
    return reached(state, reader.epoch)


def _floor(state: State, reader: Reader) -> int:
    """A plain reader's: what is acknowledged, or settled (nobody is at it any more), or due from its own process."""
    database = state.database
    if reader.kind == "strict":
        return database.version
    settled = not database.pending and all(saver.step != "bare" for saver in state.savers)
    floor = database.version if settled else state.acknowledged
    return max(floor, state.owed[reader.home]) if state.owed else floor


def _looks_again(state: State, world: World, at: int, reader: Reader) -> Steps:
    redis = _asked(state, world, reader)
    if world.look == "entry first":
        both = reader._replace(stamps=_seen(redis, world, reader))
        yield from _has_both(state, world, at, both, "reads the stamps, and ")
    else:
        yield from _has_both(state, world, at, reader._replace(found=redis.entry), "reads the entry, and ")


def _has_both(state: State, world: World, at: int, reader: Reader, said: str) -> Steps:
    if reader.kind == "strict" and MISSING not in reader.stamps:
        yield f"reader {at} {said}finds all stamps", _now(state, at, reader, step="looked")
    else:
        yield from _judges(state, world, at, reader, said)


def _judges(state: State, world: World, at: int, reader: Reader, said: str) -> Steps:
    entry, reader = reader.found, reader._replace(found=None)
    step = "missing" if MISSING in reader.stamps else "captured"
    if entry is None or not _hits(entry, reader, world):
        yield f"reader {at} {said}misses", _now(state, at, reader, step=step)
    elif not entry.expired:
        yield f"reader {at} {said}hits", _serve(state, at, reader, entry.version, "a hit")
    else:
        served = _serve(state, at, reader, entry.version, "an expired answer")
        yield f"reader {at} {said}takes the expired answer", served
        yield (
            f"reader {at} {said}takes the expired answer, to renew it",
            _now(state, at, reader, step=step, served=True),
        )


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


def fits(entry: Entry, reader: Reader) -> bool:
    """Each stamp stands and is the one that the entry was kept with; for a strict reader each generation too."""
    if MISSING in reader.stamps or entry.stamps != reader.stamps:
        return False
    return reader.generations is None or entry.generations == reader.generations


def _captures(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: a fresh value for each stamp that is missing or of another epoch than the reader's, then all."""
    state = _drawn(state, world, reader)
    stamps = _stamps(state, world, reader)
    state = _remember(state, stamps)
    step = "looked" if reader.kind == "strict" else "captured"
    yield f"reader {at} captures all stamps", _now(state, at, reader, step=step, stamps=stamps)


def _drawn(state: State, world: World, reader: Reader) -> State:
    for tag, stamp in enumerate(_stamps(state, world, reader)):
        if stamp == MISSING:
            value = MISSING
            if world.mistake == "zero_stamp":
                value = FIXED
            elif world.mistake == "remembered_stamp":
                value = state.remembered[tag]
            state = stamped(state, tag, reader.epoch, value)
    return state


def _leads(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: an answer that came meanwhile, a leader of the same flight to wait for, or the lead."""
    entry = reached(state, reader.epoch).entry
    renews = reader.served or reader.kind == "inside"
    if entry and not entry.expired and not renews and _may_take(entry, reader, world):
        yield f"reader {at} finds an answer that came", _serve(state, at, reader, entry.version, "found in the lead")
        return
    flight = _flight(reader, world)
    led = any(other.leased and _flight(other, world) == flight for other in state.readers)
    if led and world.mistake != "no_lease":
        if reader.served:
            yield f"reader {at} leaves the renewal to another", _now(state, at, Reader(reader.kind, step="done"))
        elif reader.step != "waiting" and reader.kind != "inside":
            yield f"reader {at} waits", _now(state, at, reader, step="waiting")
        return
    version = UNCOMMITTED if reader.kind == "inside" else state.database.version
    shown = "what is not committed" if version == UNCOMMITTED else f"version {version}"
    leads = reader._replace(step="called", version=version, leased=True)
    yield f"reader {at} leads, and calls upstream with {shown}", _now(state, at, leads)


def _may_take(entry: Entry, reader: Reader, world: World) -> bool:
    match world.mistake:
        case "blind_lead":
            return True
        case "strict_lead":
            return entry.stamps == reader.stamps
    return fits(entry, reader)


def _flight(reader: Reader, world: World) -> object:
    """Whose call one may wait for: that of a leader who captured the very same."""
    match world.mistake:
        case "blind_waiter":
            return None
        case "strict_flight":
            return reader.stamps
    return (reader.stamps, reader.generations)


def _compares(state: State, world: World, at: int, reader: Reader) -> Steps:
    now = _stamps(state, world, reader)
    if world.mistake == "late_stamp":
        state = _drawn(state, world, reader)
        reader = reader._replace(stamps=_stamps(state, world, reader))
    elif now != reader.stamps and world.mistake != "no_compare":
        told = _told(state, world, at, reader)
        yield f"reader {at} has its answer, which is superseded: it is shared, not stored", _ends(told, at, reader)
        return
    if world.mistake == "late_generations":
        reader = reader._replace(generations=_generations(state, world))
    yield f"reader {at} has its answer, and finds its stamps standing", _now(state, at, reader, step="checked")


def _stores(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: the lease is still its own, so the answer is stored. It may be dead by now: that costs a miss."""
    if not reader.leased and world.mistake != "stores_late":
        yield f"reader {at} comes too late to store", _ends(state, at, reader)
        return
    redis = reached(state, reader.epoch)._replace(entry=Entry(reader.version, reader.stamps, reader.generations))
    stored = changed(_told(state, world, at, reader), reader.epoch, redis)
    yield f"reader {at} stores its answer", _ends(stored, at, reader)


def _told(state: State, world: World, at: int, leader: Reader) -> State:
    """Those who wait for this flight take its answer, without another look. Shared streams may give it them earlier."""
    flight = _flight(leader, world)
    for other, reader in enumerate(state.readers):
        if reader.step == "waiting" and other != at and _flight(reader, world) == flight:
            state = _serve(state, other, reader, leader.version, "a shared call")
    return state


def _ends(state: State, at: int, reader: Reader) -> State:
    return _now(state, at, Reader(reader.kind, reader.home, "done"))


def _serve(state: State, at: int, reader: Reader, version: int, how: str) -> State:
    if version == UNCOMMITTED:
        saver = state.savers[0]
        if saver.step in ("open", "done") and saver.version == 0:
            raise Stale(f"reader {at} gets what is not committed ({how})")
        version = saver.version
    if reader.kind == "inside":
        raise Stale(f"reader {at} gets version {version}, without its own transaction's change ({how})")
    if version < reader.floor:
        raise Stale(f"reader {at} must get version {reader.floor} or a later one, and gets {version} ({how})")
    return _ends(state, at, reader)


def _generations(state: State, world: World) -> Generations:
    """One query, so one moment: the base and the rows that stand."""
    database = state.database
    each = tuple(database.rows[tag] + database.folded[tag] for tag in range(world.hangs))
    return each[:1] if world.mistake == "unknown_database" else each


def _stamps(state: State, world: World, reader: Reader) -> Stamps:
    return _seen(reached(state, reader.epoch), world, reader)


def _seen(redis: Redis, world: World, reader: Reader) -> Stamps:
    stamps = redis.stamps if world.mistake == "any_epoch" else redis.seen(reader.epoch)
    return stamps[: world.hangs]


def _remember(state: State, stamps: Stamps) -> State:
    return state._replace(remembered=stamps) if state.remembered else state


def _now(state: State, at: int, reader: Reader, **changes: object) -> State:
    if changes:
        reader = reader._replace(**changes)  # type: ignore[arg-type]
    return state._replace(readers=(*state.readers[:at], reader, *state.readers[at + 1 :]))
