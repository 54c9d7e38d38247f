"""Calls with prompts that begin alike, interleaved step by step in any order, at one gate and one prompt cache."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.core.gate import through
from aicache.core.gating import Note, Quit, Sleep, Stay
from aicache.core.operations import Call, Elapsed, Flow, Unavailable
from aicache.core.prefix import minimum
from aicache.core.records import Answer, Called, Failure, Served
from aicache.core.turns import News
from aicache.testing.prefixes import MemoryPrefixes
from aicache.testing.promptcache import PromptCache, Visit
from tests.core.prompts import MODEL, TOKENS, Books, prompt

ANY_ORDER = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATHS = st.sampled_from(["ab", "ac", "abd", "abde", "abf", "ag", "abdh"])


@dataclass
class Caller:
    path: str
    flow: Flow
    operation: Any
    visit: Visit | None = None
    called: Called | None = None
    error: BaseException | None = None
    failures: int = 0

    @property
    def done(self) -> bool:
        return self.called is not None or self.error is not None


@dataclass
class World:
    """One operation at a time. What is said at ``endings`` becomes of the calls, first come first served; the rest are
    answered."""

    endings: list[str] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    gate: MemoryPrefixes = field(default_factory=MemoryPrefixes)
    cache: PromptCache = field(default_factory=PromptCache)
    callers: list[Caller] = field(default_factory=list)
    away: bool = False

    def __post_init__(self) -> None:
        self.cache.minimum = minimum(MODEL)

    def begin(self, path: str, **choices: Any) -> Caller:
        flow = through(prompt(path, self.books, **choices), None, lambda called: Served("miss", own=called))
        caller = Caller(path, flow, next(flow))
        self.callers.append(caller)
        return caller

    def ready(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.done and not self._stays(caller)]

    def _stays(self, caller: Caller) -> bool:
        news = self.gate._awaited(caller.operation) if isinstance(caller.operation, Stay) else None
        return news is not None and not news.done() and not self.away

    def step(self, caller: Caller) -> None:
        if isinstance(caller.operation, Call) and caller.visit is None:
            caller.visit = self.cache.visit(caller.flow.gi_frame.f_locals["prompt"].body, {})  # type: ignore[attr-defined]
            return
        try:
            result = self._perform(caller, caller.operation)
        except (Unavailable, ZeroDivisionError) as error:
            self._go(caller, caller.flow.throw, error)
        else:
            self._go(caller, caller.flow.send, result)

    def cancel(self, caller: Caller) -> None:
        self._go(caller, caller.flow.throw, KeyboardInterrupt())

    def _go(self, caller: Caller, advance: Any, what: Any) -> None:
        try:
            caller.operation = advance(what)
        except StopIteration as end:
            caller.called = end.value[0]
        except (ZeroDivisionError, KeyboardInterrupt) as error:
            caller.error = error

    def _perform(self, caller: Caller, operation: Any) -> Any:
        match operation:
            case Elapsed():
                return 0.0
            case Sleep():
                return None
            case Call():
                return self._end(caller)
            case Stay():
                if self.away:
                    raise Unavailable("unreachable")
                news = self.gate.stay(Stay(operation.prompt, operation.token, 0))
                caller.failures += news is News.BROKE_OFF
                return news
        if self.away:
            raise Unavailable("unreachable")
        return self.gate.perform(operation)

    def _end(self, caller: Caller) -> Called:
        ending = self.endings.pop() if self.endings else "answer"
        assert caller.visit is not None
        if ending == "raise":
            raise ZeroDivisionError
        if ending == "overloaded":
            return Called("overloaded", Failure("status", 529))
        caller.visit.begun()
        message = {"type": "message", "usage": caller.visit.usage}
        return Called("answered", Answer(json.dumps(message).encode()), message)

    def run(self, draw: Any) -> None:
        while ready := self.ready():
            self.step(ready[draw(len(ready))])
        assert all(caller.done for caller in self.callers), "somebody waits for nobody"


def drawn(data: st.DataObject) -> Any:
    return lambda many: data.draw(st.integers(0, many - 1))


def under_way(paths: list[str], data: st.DataObject) -> World:
    """Some steps on."""
    world = World()
    for path in paths:
        world.begin(path)
    for _ in range(data.draw(st.integers(0, 12))):
        if ready := world.ready():
            world.step(ready[data.draw(st.integers(0, len(ready) - 1))])
    return world


def segments(paths: list[str]) -> set[str]:
    """What has to be written so that all can be read: each beginning once."""
    return {path[: at + 1] for path in paths for at in range(len(path))}


@ANY_ORDER
@given(st.lists(PATHS, min_size=1, max_size=7), st.data())
def test_each_beginning_is_written_once(paths: list[str], data: st.DataObject) -> None:
    world = World()
    for path in paths:
        world.begin(path)
    world.run(drawn(data))

    written = sum(caller.called.use.written for caller in world.callers)  # type: ignore[union-attr]
    assert written == TOKENS * len(segments(paths))
    assert not any(use.redundant for use in world.books.uses)
    assert len(world.books.uses) == len(paths)
    assert world.gate._gates == {}


@ANY_ORDER
@given(
    st.lists(PATHS, min_size=1, max_size=7),
    st.lists(st.sampled_from(["answer", "raise", "overloaded"]), max_size=7),
    st.data(),
)
def test_whatever_becomes_of_those_who_lead_everybody_calls_and_nobody_leaves_the_gate_shut(
    paths: list[str], endings: list[str], data: st.DataObject
) -> None:
    world = World(endings)
    for path in paths:
        world.begin(path)
    world.run(drawn(data))

    assert world.gate._gates == {}
    assert all(caller.failures <= 2 for caller in world.callers)


@ANY_ORDER
@given(st.lists(PATHS, min_size=2, max_size=6), st.data())
def test_who_is_interrupted_anywhere_keeps_nobody_waiting(paths: list[str], data: st.DataObject) -> None:
    world = under_way(paths, data)
    if left := [caller for caller in world.callers if not caller.done]:
        world.cancel(data.draw(st.sampled_from(left)))
    world.run(drawn(data))

    assert world.gate._gates == {}


@ANY_ORDER
@given(st.lists(PATHS, min_size=2, max_size=6), st.data())
def test_while_the_store_is_away_everybody_calls(paths: list[str], data: st.DataObject) -> None:
    world = under_way(paths, data)
    world.away = True
    world.run(drawn(data))

    assert all(caller.called is not None for caller in world.callers)


@ANY_ORDER
@given(st.lists(PATHS, min_size=2, max_size=6), st.data())
def test_what_is_only_measured_waits_for_nobody_and_is_counted_exactly(paths: list[str], data: st.DataObject) -> None:
    """Of what is written twice, all but what was not known to live, as another one wrote more of it at that time."""
    world = World()
    for path in paths:
        world.begin(path, terms="measure")
    world.run(drawn(data))

    written = sum(use.written for use in world.books.uses)
    again = sum(use.redundant for use in world.books.uses)
    assert written - again == TOKENS * len(segments(paths))
    assert {use.state for use in world.books.uses} == {"off"}


def finish(world: World, caller: Caller) -> None:
    while not caller.done:
        world.step(caller)


def test_a_prefix_that_is_written_again_though_it_lives_costs_what_reading_it_would_not_have() -> None:
    world = World()
    world.cache.lag = 3600.0
    first, second = world.begin("ab", terms="measure"), world.begin("ab", terms="measure")
    finish(world, first)
    finish(world, second)

    assert [use.redundant for use in world.books.uses] == [0, 2 * TOKENS]
    assert [use.redundant_usd for use in world.books.uses] == [0, 2 * TOKENS]


@pytest.mark.parametrize("verb", [Note, Quit])
def test_a_store_that_goes_away_as_the_answer_begins_is_no_trouble_of_its_caller(verb: type[Any]) -> None:
    world = World([] if verb is Note else ["overloaded"])
    caller = world.begin("ab")
    while not isinstance(caller.operation, verb):
        world.step(caller)
    world.away = True
    finish(world, caller)

    assert caller.called is not None
    assert caller.called.raw == ("answered" if verb is Note else "overloaded")
    assert caller.called.use is not None
    assert caller.called.use.state == "lead"


def test_who_leads_in_vain_twice_is_followed_by_all_at_once() -> None:
    world = World(["overloaded"] * 10)
    callers = [world.begin("ab") for _ in range(6)]
    calls = 0
    while ready := world.ready():
        at_once = [caller for caller in ready if isinstance(caller.operation, Call)]
        calls = max(calls, len(at_once))
        others = [caller for caller in ready if caller not in at_once]
        world.step((others or ready)[0])

    assert all(caller.done for caller in callers)
    assert calls == 4
