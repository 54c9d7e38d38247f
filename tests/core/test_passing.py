"""Many streams of the same question, interleaved step by step in any order that hypothesis can think of."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.core.flow import serve
from aicache.core.life import Life
from aicache.core.live import BROKEN, Last, Live
from aicache.core.operations import Call, Capture, Elapsed, Flow, Keep, Moment, Now, Recall, Recalled, Spawn, Wait
from aicache.core.passing import following
from aicache.core.policy import Policy
from aicache.core.records import NO_STAMPS, Answer, Ask, Called, Entry, Opened, Served
from aicache.core.replay import events as replayed
from aicache.core.streaming import Begin, Check, Give, Left, Pull, Tail, Withhold
from aicache.core.tags import Tag, hanging
from aicache.testing.memory import MemoryStore

TENANT = "t" * 32
PING = b"event: ping\ndata: {}\n\n"
PRICES: tuple[Tag, ...] = hanging(["prices"], TENANT)


def stream_of(number: int) -> list[bytes]:
    """One that says which it is in each event."""
    message = {"type": "message", "id": f"m{number}", "stop_reason": "end_turn", "usage": {"output_tokens": 1}}
    message["content"] = [{"type": "text", "text": f"answer {number} " * 3}]
    whole = replayed(Answer(json.dumps(message).encode()))
    events = [f"{event}\n\n".encode() for event in whole.decode().split("\n\n")[:-1]]
    assert len(events) == 6
    return [*events[:2], PING, *events[2:]]


class Source:
    """Upstream's: as many chunks as there are, then how it ends."""

    def __init__(self, number: int, ending: str) -> None:
        self.number = number
        self.chunks = stream_of(number)
        self.raw = b"".join(self.chunks)
        self.events = b"".join(chunk for chunk in self.chunks if chunk != PING)
        self.is_open = True
        self.ends: list[str] = []
        self.has_failed = ending != "whole"
        if ending == "error":
            self.chunks[4:] = [b'event: error\ndata: {"type": "error"}\n\n']
        elif ending in ("cut", "broken"):
            del self.chunks[4:]
        self.breaks = ending == "broken"

    def pull(self) -> bytes | None:
        if self.chunks:
            return self.chunks.pop(0)
        if self.breaks:
            raise ConnectionResetError
        return None

    def close(self) -> None:
        self.is_open = False

    def interrupt(self) -> None: ...

    def taken(self) -> None: ...

    def is_timeout(self, error: Exception) -> bool:
        return False

    def answer(self, body: bytes, events: bytes, message: Any) -> Answer:
        self.ends.append("answer")
        return Answer(body, events=events)

    def over(self) -> None:
        self.ends.append("over")


@dataclass
class Caller:
    ask: Ask
    flow: Flow
    operation: Any
    invalidations: int
    got: bytes = b""
    withheld: bytes = b""
    served: Served | None = None
    error: BaseException | None = None
    own: Source | None = None
    wants: bool = True

    @property
    def done(self) -> bool:
        return self.served is not None or self.error is not None


@dataclass
class World:
    endings: list[str]
    store: MemoryStore = field(default_factory=MemoryStore)
    callers: list[Caller] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    opened_after: dict[int, int] = field(default_factory=dict)  # how many invalidations a stream has seen
    invalidations: int = 0

    def begin(self, ask: Ask) -> Caller:
        flow = serve(ask)
        self.callers.append(Caller(ask, flow, next(flow), self.invalidations))
        return self.callers[-1]

    def invalidate(self) -> None:
        self.store.stamp(PRICES)
        self.invalidations += 1

    def ready(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.done and not self.blocked(caller)]

    def blocked(self, caller: Caller) -> bool:
        match caller.operation:
            case Tail(live, at):
                return isinstance(live.take(at), Future)
            case Wait() as wait:
                flight = self.store._flight(wait)
                heard = flight is None or flight.news.done()
                return not heard and not (wait.ask.live and flight is not None and flight.live.begun.done())
        return False

    def may_leave(self, caller: Caller) -> bool:
        return caller.wants and not caller.done and isinstance(caller.operation, Begin | Give | Pull | Tail)

    def leave(self, caller: Caller) -> None:
        caller.wants = False
        self._go(caller, caller.flow.throw, Left())

    def may_be_interrupted(self, caller: Caller) -> bool:
        """But for the moment in which it lets go of everything, which a store in memory does not leave unfinished."""
        interruptible = Call | Begin | Give | Withhold | Pull | Tail | Now
        return caller.wants and not caller.done and isinstance(caller.operation, interruptible)

    def interrupt(self, caller: Caller) -> None:
        caller.wants = False
        self._go(caller, caller.flow.throw, KeyboardInterrupt())

    def step(self, caller: Caller) -> None:
        try:
            result = self.perform(caller, caller.operation)
        except ConnectionResetError as error:
            self._go(caller, caller.flow.throw, error)
        else:
            self._go(caller, caller.flow.send, result)

    def _go(self, caller: Caller, advance: Any, what: Any) -> None:
        try:
            caller.operation = advance(what)
        except StopIteration as end:
            caller.served = end.value
            if caller.wants:
                caller.got += caller.withheld
            if caller.own is not None:
                caller.own.close()
        except KeyboardInterrupt as error:
            caller.error = error

    def perform(self, caller: Caller, operation: Any) -> Any:
        match operation:
            case Call():
                source = Source(len(self.sources), self.endings.pop() if self.endings else "whole")
                self.opened_after[source.number] = self.invalidations
                self.sources.append(source)
                caller.own = source
                return Called(None, Opened(caller.ask, source, (("x", "y"),)))
            case Pull():
                return operation.upstream.pull()
            case Begin():
                return None
            case Give():
                caller.got += operation.piece if caller.wants else b""
                return None
            case Withhold():
                caller.withheld += operation.piece
                return None
            case Now():
                return Moment(1000.0, Life(4e9, 4e9))
            case Elapsed():
                return 0.0
            case Spawn():
                return False
            case Recall():
                return Recalled((0,))
            case Keep():
                return None
        return self.store.perform(operation)


def an_ask(live: bool = True) -> Ask:
    return Ask("k", "l", TENANT, Policy("default"), tags=PRICES, streams=True, live=live)


ENDINGS = st.lists(st.sampled_from(["whole", "error", "cut", "broken"]), max_size=4)
SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(
    asks: list[Ask],
    endings: list[str],
    data: Any,
    *,
    leaving: bool = False,
    interrupting: bool = False,
    dying: bool = False,
) -> World:
    world = World(list(endings))
    world.store.perform(Capture(an_ask()))
    waiting = list(asks)
    try:
        for _ in range(3000):
            ready = world.ready()
            going = [caller for caller in world.callers if world.may_leave(caller)] if leaving else []
            choices: list[Any] = [*((world.step, caller) for caller in ready)]
            choices += [(world.leave, caller) for caller in going]
            if interrupting:
                struck = [caller for caller in world.callers if world.may_be_interrupted(caller)]
                choices += [(world.interrupt, caller) for caller in struck]
            if waiting:
                choices.append((lambda _: world.begin(waiting.pop()), None))
            if dying and world.invalidations < 3:
                choices.append((lambda _: world.invalidate(), None))
            if not ready and not waiting:
                break
            act, caller = choices[data.draw(st.integers(0, len(choices) - 1))]
            act(caller)
    finally:
        for caller in world.callers:
            caller.flow.close()
    for source in world.sources:  # whatever became of who read it, what it costs can be told once
        assert source.ends in (["over"], ["answer", "over"])
    return world


def origin(world: World, caller: Caller) -> Source | None:
    """The one stream of which what the caller got is a part, from its beginning on."""
    if not caller.got:
        return None
    if caller.own is not None:
        assert (caller.own.raw.startswith(caller.got)) or b"event: error" in caller.got
        return caller.own
    found = [source for source in world.sources if common(source.events, caller.got)]
    assert len(found) == 1, caller.got
    return found[0]


def common(events: bytes, got: bytes) -> bool:
    if got == events[: len(got)]:
        return True
    told, _, error = got.partition(b"event: error")
    return bool(error) and told == events[: len(told)]


def entries(world: World) -> list[Entry]:
    return list(world.store._entries.values())


@SOME
@given(st.integers(1, 6), ENDINGS, st.data())
def test_each_reads_one_stream_from_its_first_event_on_and_ends_as_that_did(
    many: int, endings: list[str], data: Any
) -> None:
    world = run([an_ask()] * many, endings, data)

    assert all(caller.done for caller in world.callers)
    assert not world.store._flights, "a lease was left behind"
    for caller in world.callers:
        assert caller.error is None
        served = caller.served
        assert served is not None
        source = origin(world, caller)
        match served.status, served.reason:
            case "error", _:
                assert source is None or source.has_failed
            case _, "incomplete":
                assert source is not None
                assert source.has_failed
            case "hit" | "coalesced", _ if served.entry is not None and not caller.got:
                assert served.entry.answer.events in [one.events for one in world.sources]
            case _:
                assert source is not None
                assert caller.got == (source.raw if caller.own else source.events)


@SOME
@given(st.integers(2, 6), st.data())
def test_one_question_is_one_stream(many: int, data: Any) -> None:
    world = run([an_ask()] * many, [], data)

    assert len(world.sources) == 1
    assert Counter(caller.served.status for caller in world.callers if caller.served)["miss"] == 1
    assert [entry.answer.events for entry in entries(world)] == [world.sources[0].events]


@SOME
@given(st.integers(1, 6), ENDINGS, st.data())
def test_only_what_was_whole_is_kept_whoever_leaves_and_when(many: int, endings: list[str], data: Any) -> None:
    world = run([an_ask()] * many, endings, data, leaving=True)

    assert all(caller.done for caller in world.callers)
    assert not world.store._flights, "a lease was left behind"
    assert not any(source.is_open for source in world.sources)
    for entry in entries(world):
        assert entry.answer.events in [source.events for source in world.sources if not source.has_failed]
        assert json.loads(entry.answer.body)["stop_reason"] == "end_turn"


@SOME
@given(st.integers(2, 6), st.data())
def test_whoever_leaves_who_stays_gets_the_whole(many: int, data: Any) -> None:
    world = run([an_ask()] * many, [], data, leaving=True)

    for caller in world.callers:
        if caller.wants and caller.got:
            source = origin(world, caller)
            assert source is not None
            assert caller.got == (source.raw if caller.own else source.events)
            assert caller.served is not None
            assert caller.served.status in ("miss", "coalesced")


@SOME
@given(st.integers(2, 6), st.booleans(), st.data())
def test_whoever_is_interrupted_who_stays_is_not_kept_waiting(many: int, live: bool, data: Any) -> None:
    world = run([an_ask(live)] * many, [], data, interrupting=True)

    assert all(caller.done for caller in world.callers)
    assert not world.store._flights, "a lease was left behind"
    for caller in world.callers:
        if caller.wants:
            source = origin(world, caller)
            assert caller.served is not None
            if caller.served.status == "error":  # in the middle of what has broken off
                assert caller.got
                assert any(other.own is source and not other.wants for other in world.callers)
            elif source is not None:
                assert caller.got == (source.raw if caller.own else source.events)


@SOME
@given(st.integers(2, 6), ENDINGS, st.data())
def test_what_died_before_a_caller_began_is_not_read_by_it(many: int, endings: list[str], data: Any) -> None:
    world = run([an_ask()] * many, endings, data, dying=True, leaving=True)

    for caller in world.callers:
        if (source := origin(world, caller)) is not None:
            assert world.opened_after[source.number] >= caller.invalidations
        elif caller.served is not None and caller.served.entry is not None:
            (source,) = [one for one in world.sources if one.events == caller.served.entry.answer.events]
            assert world.opened_after[source.number] >= caller.invalidations
    for entry in entries(world):
        if entry.stamps.values == tuple(world.store._stamps[tag.digest] for tag in PRICES):
            (source,) = [one for one in world.sources if one.events == entry.answer.events]
            assert world.opened_after[source.number] == world.invalidations


@SOME
@given(st.integers(2, 5), st.data())
def test_what_is_not_shared_live_is_read_by_nobody_before_its_end(many: int, data: Any) -> None:
    world = run([an_ask(live=False)] * many, [], data)

    assert len(world.sources) == 1
    for caller in world.callers:
        assert caller.own is not None or caller.got == b""
        assert caller.served is not None
        assert caller.own is not None or caller.served.entry is not None


def test_while_one_reads_and_nobody_leaves_there_is_one_connection() -> None:
    world = World([])
    first, second = world.begin(an_ask()), world.begin(an_ask())
    while not isinstance(first.operation, Give):
        world.step(first)
    while not isinstance(second.operation, Tail):
        world.step(second)
    world.leave(first)  # it is needed
    while not first.done or not second.done:
        for caller in (first, second):
            if not caller.done and not world.blocked(caller):
                world.step(caller)
    assert len(world.sources) == 1
    assert second.got == world.sources[0].events
    assert first.served is not None
    assert first.served.stored


def test_a_leader_that_is_gone_is_found_out_by_those_who_read() -> None:
    """Its flow is dropped in the middle; who looks after it finds nothing."""
    world = World([])
    first, second = world.begin(an_ask()), world.begin(an_ask())
    while not isinstance(first.operation, Give):
        world.step(first)
    while not isinstance(second.operation, Tail) or second.got == b"":
        world.step(second)
    live = second.operation.live
    while isinstance(second.operation, Tail) and not isinstance(live.take(second.operation.at), Future):
        world.step(second)
    operation = second.flow.send(None)
    assert isinstance(operation, Elapsed)
    assert isinstance(second.flow.send(1.0), Check)
    live.end(BROKEN)
    operation = second.flow.send(None)
    assert isinstance(operation, Tail)
    got = live.take(operation.at)
    assert isinstance(got, Last)
    second.operation = operation
    world.step(second)
    while not second.done:
        world.step(second)
    assert second.served is not None
    assert second.served.status == "error"
    first.flow.close()


def test_who_reads_and_is_dropped_counts_no_more() -> None:
    live = Live()
    live.join()
    reading = following(an_ask(), NO_STAMPS, "token", live, 0.0)
    next(reading)
    reading.close()
    assert not live.is_followed_here


def test_who_hears_nothing_for_as_long_as_its_own_call_might_takes_it_for_a_timeout() -> None:
    assert heard_nothing(timeout=5.0, seconds=60) == "timeout"
    assert heard_nothing(timeout=None, seconds=60) is None


def test_the_pause_of_who_reads_is_no_silence_of_who_is_read() -> None:
    live = Live()
    live.open((), 1000)
    live.feed(b"first")
    ask = Ask("k", "l", TENANT, Policy("default"), timeout=5.0, streams=True, live=True)
    flow = following(ask, NO_STAMPS, "token", live, 0.0)
    elapsed, operation = 0.0, next(flow)
    while not isinstance(operation, Check):
        match operation:
            case Elapsed():
                operation = flow.send(elapsed)
            case Tail():
                got = live.take(operation.at)
                operation = flow.send(None if isinstance(got, Future) else got)
            case Give():
                elapsed += 100.0
                operation = flow.send(None)
            case _:
                operation = flow.send(None)
    flow.close()


def heard_nothing(timeout: float | None, seconds: int) -> str | None:
    """How it ended for who reads a stream of which no more comes for so long; None: it did not."""
    live = Live()
    live.open((), 1000)
    live.feed(b"first")
    ask = Ask("k", "l", TENANT, Policy("default"), timeout=timeout, streams=True, live=True)
    flow = following(ask, NO_STAMPS, "token", live, 0.0)
    operation: Any = next(flow)
    elapsed = 0.0
    try:
        while elapsed < seconds:
            match operation:
                case Elapsed():
                    operation, elapsed = flow.send(elapsed), elapsed + 0.5
                case Tail():
                    got = live.take(operation.at)
                    operation = flow.send(None if isinstance(got, Future) else got)
                case _:
                    operation = flow.send(None)
    except StopIteration as end:
        kind: str = end.value.failure.kind
        return kind
    flow.close()
    return None
