"""Leaders: lead or wait, recall, call, compare, store. The steps of ``lead`` in ``aicache/core/flow.py``.

A call upstream starts in the step in which its reader takes the lead, or has recalled: one that starts later sees a
newer document, and does less harm.
"""

from __future__ import annotations

from tests.protocol.copies import found, generations, handed_over, lives
from tests.protocol.promise import check, ends, pinned, serve
from tests.protocol.state import MISSING, UNCOMMITTED, Copy, Entry, Generations, Reader, State
from tests.protocol.world import Steps, World, changed, drawn, fits, marked, reached, seen


def steps(state: State, world: World, at: int, reader: Reader) -> Steps:
    match reader.step:
        case "captured" | "waiting":
            yield from _leads(state, world, at, reader)
        case "led":
            yield from _recalls(state, world, at, reader)
        case "recalled":
            yield from _counts(state, world, at, reader)
        case "counted":
            for copy in _found(state, reader):
                yield from _judges(state, world, at, reader._replace(copy=copy), f"finds {_named(copy)}, and ")
        case "calling":
            counted = generations(state, world)
            yield f"reader {at} counts the generations", state.with_reader(at, reader, step="called", counted=counted)
        case "called":
            yield from _compares(state, world, at, reader)
        case "checked":
            yield from _stores(state, world, at, reader)


def cut_off(state: State, world: World, at: int, reader: Reader) -> State:
    """Who led has an answer all the same."""
    if reader.step in ("called", "checked"):
        state = _handed_over(_told(state, world, at, reader), world, reader)
    return ends(state, at, reader)


def _leads(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: an answer that came meanwhile, a leader of the same flight to wait for, or the lead.

    Who leads under another mark than today's leads no more: the answer was purged since, or the mark is lost.
    """
    redis = reached(state, reader.epoch)
    entry = redis.entry
    renews = reader.served or reader.kind == "inside"
    if entry and not entry.expired and not renews and _may_take(entry, reader, world):
        yield f"reader {at} finds an answer that came", serve(state, world, at, reader, entry, "found in the lead")
        return
    flight = _flight(reader, world)
    leader = next((other for other in state.readers if other.leased and _flight(other, world) == flight), None)
    if leader and world.mistake != "no_lease":
        if leader.mark == redis.mark or world.mistake == "late_mark":
            if reader.served:
                yield f"reader {at} leaves the renewal to another", ends(state, at, reader)
            elif reader.kind != "inside" and (reader.step, reader.mark) != ("waiting", leader.mark):
                yield f"reader {at} waits", state.with_reader(at, reader, step="waiting", mark=leader.mark)
            return
        state = _taken_over(state, world, flight)
    if world.purges and redis.mark == MISSING and world.mistake != "no_mark":
        state = marked(state, reader.epoch)
    leads = reader._replace(leased=True, mark=reached(state, reader.epoch).mark)
    if world.copies:
        yield f"reader {at} leads", state.with_reader(at, leads, step="led")
    else:
        yield from _calls(state, at, leads._replace(step="called"), "leads, and ")


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


def _taken_over(state: State, world: World, flight: object) -> State:
    """Who waits is told to look again; who led will come too late to store."""

    def told(reader: Reader) -> Reader:
        if _flight(reader, world) != flight:
            return reader
        if reader.step == "waiting":
            return reader._replace(step="captured", mark=MISSING)
        return reader._replace(leased=False)

    return state._replace(readers=tuple([told(reader) for reader in state.readers]))


def _recalls(state: State, world: World, at: int, reader: Reader) -> Steps:
    """Two queries, the copy's row and the generations. Where they fail, no copy of the answer is made either."""
    yield from _calls(state, at, reader._replace(step="called"), "cannot reach the database, and ")
    if world.copies == "count first":
        counted = generations(state, world)
        yield f"reader {at} counts the generations", state.with_reader(at, reader, step="counted", counted=counted)
        return
    for copy in _found(state, reader):
        yield f"reader {at} finds {_named(copy)}", state.with_reader(at, reader, step="recalled", copy=copy)


def _found(state: State, reader: Reader) -> tuple[Copy | None, ...]:
    return (None,) if reader.served else (None, *found(state))


def _named(copy: Copy | None) -> str:
    return f"a copy of version {copy.version}" if copy else "no copy"


def _counts(state: State, world: World, at: int, reader: Reader) -> Steps:
    counted = reader.counted if world.mistake == "old_snapshot" else generations(state, world)
    yield from _judges(state, world, at, reader._replace(counted=counted), "counts the generations, and ")


def _judges(state: State, world: World, at: int, reader: Reader, said: str) -> Steps:
    copy = reader.copy
    if copy and (lives(copy, reader) or world.mistake == "copy_unchecked"):
        check(state, at, reader, copy.version, "a copy")
        yield f"reader {at} {said}takes the copy", state.with_reader(at, reader, step="called", version=copy.version)
    else:
        step = "calling" if world.mistake == "count_in_call" else "called"
        yield from _calls(state, at, reader._replace(step=step, copy=None), said)


def _calls(state: State, at: int, reader: Reader, said: str) -> Steps:
    version = UNCOMMITTED if reader.kind == "inside" else state.database.version
    shown = "what is not committed" if version == UNCOMMITTED else f"version {version}"
    yield f"reader {at} {said}calls upstream with {shown}", state.with_reader(at, reader, version=version)


def _compares(state: State, world: World, at: int, reader: Reader) -> Steps:
    if world.copies:
        alone = ends(_handed_over(state, world, reader), at, reader)
        yield f"reader {at} has its answer, and cannot reach Redis", alone
    now = _stamps(state, world, reader)
    compares = world.mistake != "no_compare"
    if world.mistake == "late_stamp" or (world.mistake == "late_put_back" and reader.copy):
        state = drawn(state, world, reader)
        reader = reader._replace(stamps=_stamps(state, world, reader))
        compares = False
    if compares and now != reader.stamps:
        told = _shared(state, world, at, reader)
        yield f"reader {at} has its answer, which is superseded: it is shared, not stored", ends(told, at, reader)
        return
    if world.mistake == "late_generations":
        reader = reader._replace(generations=generations(state, world))
    elif world.mistake == "late_count" and reader.counted is not None:
        reader = reader._replace(counted=generations(state, world))
    yield f"reader {at} has its answer, and finds its stamps standing", state.with_reader(at, reader, step="checked")


def _stores(state: State, world: World, at: int, reader: Reader) -> Steps:
    """One script: lease and mark are still its own, so the answer is stored. It may be dead by now: a miss."""
    redis = reached(state, reader.epoch)
    blindly = world.mistake == "blind_put_back" and reader.copy
    if not (reader.leased or blindly or world.mistake == "stores_late"):
        late = _handed_over(state, world, reader) if _keeps_all(world) else state
        yield f"reader {at} comes too late to store", ends(late, at, reader)
        return
    if reader.mark != redis.mark and not blindly:
        told = _shared(state, world, at, reader)
        yield f"reader {at} finds another mark than its own: its answer is shared, not stored", ends(told, at, reader)
        return
    redis = redis._replace(entry=Entry(reader.version, reader.stamps, _made_under(reader)))
    stored = _handed_over(changed(_told(state, world, at, reader), reader.epoch, redis), world, reader)
    yield f"reader {at} stores its answer", ends(stored, at, reader)


def _shared(state: State, world: World, at: int, reader: Reader) -> State:
    told = _told(state, world, at, reader)
    return _handed_over(told, world, reader) if _keeps_all(world) else told


def _keeps_all(world: World) -> bool:
    """A pin is the asker's own: whether it may be stored for others does not matter."""
    return world.pins or world.mistake == "keeps_superseded"


def _handed_over(state: State, world: World, reader: Reader) -> State:
    if reader.copy:
        return pinned(state, world, reader.copy)
    if reader.counted is None:
        return state
    return handed_over(state, reader.version, None if world.mistake == "late_copy" else reader.counted)


def _told(state: State, world: World, at: int, leader: Reader) -> State:
    """Those who wait for this flight take its answer, without another look. Shared streams may give it them earlier."""
    flight, answer = _flight(leader, world), Copy(leader.version, _made_under(leader))
    for other, reader in enumerate(state.readers):
        waits = reader.step == "waiting" and reader.mark == leader.mark
        if waits and other != at and _flight(reader, world) == flight:
            state = serve(state, world, other, reader, answer, "a shared call")
    return state


def _made_under(leader: Reader) -> Generations | None:
    return leader.generations if leader.counted is None else leader.counted


def _stamps(state: State, world: World, reader: Reader) -> tuple[int, ...]:
    return seen(reached(state, reader.epoch), world, reader)
