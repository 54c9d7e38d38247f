"""Many flows, interleaved step by step in any order that hypothesis can think of, over one store."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.core.flow import serve
from aicache.core.life import Life
from aicache.core.operations import (
    Call,
    Capture,
    Elapsed,
    Finish,
    Flow,
    Keep,
    Lead,
    Look,
    Moment,
    Now,
    Recall,
    Recalled,
    Seen,
    Spawn,
    Unavailable,
    Wait,
)
from aicache.core.policy import Policy
from aicache.core.records import Answer, Ask, Called, Entry, Failure, Served, Stamps
from aicache.core.turns import Held, Led, News
from aicache.testing.memory import MemoryStore

WHOLE = {"type": "message", "stop_reason": "end_turn"}
TOOL = {"type": "message", "stop_reason": "tool_use"}


@dataclass
class Caller:
    """One flow under way: what it asks for now, and how it ended."""

    ask: Ask
    flow: Flow
    operation: Any
    served: Served | None = None
    error: BaseException | None = None
    calling: bool = False
    calls: int = 0
    alone: bool = False

    @property
    def done(self) -> bool:
        return self.served is not None or self.error is not None


@dataclass
class World:
    """Steps flows, one operation at a time; upstream answers when it is told to, and says who was in there at once."""

    endings: list[str]
    store: MemoryStore = field(default_factory=MemoryStore)
    callers: list[Caller] = field(default_factory=list)
    answers: dict[bytes, Ask] = field(default_factory=dict)
    copies: dict[tuple[str, str], Entry] = field(default_factory=dict)
    now: float = 1000.0

    def begin(self, ask: Ask) -> None:
        flow = serve(ask)
        self.callers.append(Caller(ask, flow, next(flow)))

    def ready(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.done and not self.blocked(caller)]

    def blocked(self, caller: Caller) -> bool:
        if not isinstance(caller.operation, Wait):
            return False
        news = self.store._news(caller.operation)
        return news is not None and not news.done()

    def step(self, caller: Caller) -> None:
        operation = caller.operation
        try:
            if isinstance(operation, Call) and not caller.calling:
                caller.calling = True  # upstream is at it; the answer is another step
                caller.calls += 1
                return
            result = self.perform(caller, operation)
        except (ZeroDivisionError, Unavailable) as error:
            self._go(caller, caller.flow.throw, error)
        else:
            self._go(caller, caller.flow.send, result)

    def _go(self, caller: Caller, advance: Any, what: Any) -> None:
        try:
            caller.operation = advance(what)
        except StopIteration as end:
            caller.served = end.value
        except ZeroDivisionError as error:
            caller.error = error

    def perform(self, caller: Caller, operation: Any) -> Any:
        match operation:
            case Call():
                caller.calling = False
                return self.end(caller)
            case Now():
                return Moment(self.now, Life(4e9, 4e9))
            case Elapsed():
                return 0.0
            case Wait():
                news = self.store._news(operation)
                return news.result(0) if news is not None else News.LOOK_AGAIN
            case Spawn():
                return False
            case Recall():
                place = (operation.ask.tenant, operation.ask.key)
                return Recalled((0,), self.copies.get(place) if operation.copy else None)
            case Keep():
                self.copies[operation.ask.tenant, operation.ask.key] = operation.entry
                return None
        return self.store.perform(operation)

    def end(self, caller: Caller) -> Called:
        ending = self.endings.pop() if self.endings else "answer"
        match ending:
            case "raise":
                raise ZeroDivisionError
            case "overloaded":
                return Called(None, Failure("status", 529))
            case "limited":
                return Called(None, Failure("status", 429, credential=caller.ask.credential))
        body = f"{len(self.answers)}".encode()
        self.answers[body] = caller.ask
        return Called(None, Answer(body), TOOL if ending == "tool" else WHOLE)

    def in_call(self) -> list[Caller]:
        return [caller for caller in self.callers if caller.calling]


TENANTS, KEYS = st.sampled_from(["acme", "globex"]), st.sampled_from(["k1", "k2"])
ASKS = st.builds(
    Ask,
    key=KEYS,
    lineage=st.just("l"),
    tenant=TENANTS,
    policy=st.just(Policy("default")),
    refresh=st.booleans(),
    credential=st.sampled_from(["a", "b"]),
)
ENDINGS = st.lists(st.sampled_from(["answer", "raise", "overloaded", "limited", "tool"]), max_size=6)


def run(asks: list[Ask], endings: list[str], data: st.DataObject, observe: Any = lambda world: None) -> World:
    world = World(list(endings))
    try:
        _run(world, list(asks), data, observe)
    finally:
        # Hypothesis may have had enough in the middle: what is left of a flow is closed from its outside inwards.
        for caller in world.callers:
            caller.flow.close()
    return world


def _run(world: World, waiting: list[Ask], data: st.DataObject, observe: Any) -> None:
    for _ in range(2000):
        ready = world.ready()
        choices = len(ready) + bool(waiting)
        if not choices:
            break
        at = data.draw(st.integers(0, choices - 1))
        if at == len(ready):
            world.begin(waiting.pop())
        else:
            world.step(ready[at])
        observe(world)


SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_everybody_is_served_and_nobody_is_left_waiting(asks: list[Ask], endings: list[str], data: Any) -> None:
    world = run(asks, endings, data)

    assert all(caller.done for caller in world.callers)
    assert not world.store._flights, "a lease was left behind"


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_no_answer_crosses_a_tenant_or_a_key(asks: list[Ask], endings: list[str], data: Any) -> None:
    for caller in run(asks, endings, data).callers:
        if caller.served is not None and caller.served.entry is not None:
            entry = caller.served.entry
            assert (entry.tenant, entry.key) == (caller.ask.tenant, caller.ask.key)


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), st.lists(st.sampled_from(["answer", "overloaded"])), st.data())
def test_while_one_calls_nobody_else_does_for_the_same_key(asks: list[Ask], endings: list[str], data: Any) -> None:
    def observe(world: World) -> None:
        callers = Counter((caller.ask.tenant, caller.ask.key) for caller in world.in_call())
        assert not callers or max(callers.values()) == 1

    run(asks, endings, data, observe)


@SOME
@given(st.integers(2, 8), st.data())
def test_one_question_that_is_answered_is_one_call(many: int, data: Any) -> None:
    ask = Ask("k1", "l", "acme", Policy("default"))
    world = run([ask] * many, [], data)

    assert sum(caller.calls for caller in world.callers) == 1
    assert Counter(caller.served.status for caller in world.callers if caller.served)["miss"] == 1


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_what_calls_a_tool_reaches_its_own_caller_only(asks: list[Ask], endings: list[str], data: Any) -> None:
    world = run(asks, ["tool"] * 20, data)

    assert all(caller.calls == 1 for caller in world.callers)
    assert not world.store._entries


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_a_credentials_failure_reaches_that_credential_only(asks: list[Ask], endings: list[str], data: Any) -> None:
    for caller in run(asks, endings, data).callers:
        failure = caller.served.failure if caller.served else None
        if failure is not None and failure.status == 429:
            assert failure.credential == caller.ask.credential


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_an_outage_at_any_moment_is_nobodys_error(asks: list[Ask], endings: list[str], data: Any) -> None:
    def observe(world: World) -> None:
        world.store.down = data.draw(st.integers(0, 3)) == 0

    world = run(asks, [ending for ending in endings if ending != "raise"], data, observe)

    assert all(caller.error is None for caller in world.callers)


@SOME
@given(st.lists(ASKS, min_size=2, max_size=8), ENDINGS, st.data())
def test_nobody_calls_more_than_once_for_one_attempt(asks: list[Ask], endings: list[str], data: Any) -> None:
    for caller in run(asks, endings, data).callers:
        assert caller.calls <= 1


def test_a_flow_that_is_dropped_in_the_middle_of_its_call_raises_nothing() -> None:
    world = World([])
    world.begin(Ask("k1", "l", "acme", Policy("default")))
    (caller,) = world.callers
    while not caller.calling:
        world.step(caller)
    caller.flow.close()


@pytest.mark.parametrize("ending", ["overloaded", "raise"])
def test_a_lead_that_fails_is_free_for_the_next(ending: str) -> None:
    ask = Ask("k1", "l", "acme", Policy("default"))
    world = World([ending])
    for _ in range(2):
        world.begin(ask)
        while not world.callers[-1].done:
            world.step(world.callers[-1])

    assert world.callers[-1].served is not None
    assert world.callers[-1].served.status == "miss"


def test_an_answer_that_went_stale_before_its_turn_came_is_not_served_as_fresh() -> None:
    """Between a caller's look and its turn somebody stores an answer, and much time goes by."""
    store, ask = MemoryStore(), Ask("k", "l", "acme", Policy("p", ttl=60, stale_while_revalidate=600))
    late = serve(ask)
    operation: Any = next(late)
    operation = late.send(store.perform(operation))
    while not isinstance(operation, Lead):
        operation = late.send(0.0)
    stamps = store.perform(Capture(ask))
    led = store.perform(Lead(ask, stamps, since=0))
    kept = Entry("k", "acme", Answer(b"old"), time.time() - 65, time.time() - 5, time.time() + 595, stamps)
    store.perform(Finish(ask, stamps, led.token, entry=kept, keep=True, share=True))

    operation = late.send(store.perform(operation))
    assert isinstance(operation, Now)
    now = time.time()
    operation = late.send(Moment(now, Life(kept.fresh_until, kept.dies_at)))
    while not isinstance(operation, Lead):
        operation = late.send(0.0)
    assert operation.refresh
    assert isinstance(store.perform(operation), Led)


def test_what_a_copy_brings_back_is_judged_by_each_who_waited_for_it() -> None:
    """It may be of any age: who waits has another policy than who leads, or wants a new answer."""
    store, now = MemoryStore(), time.time()
    month, minute = Policy("month", ttl=30 * 86400), Policy("minute", ttl=60)
    old = Entry("k", "acme", Answer(b"old"), now - 1000, now + 86400, now + 86400, Stamps(generations=(0,)))

    def until(flow: Any, operation: Any, kind: type, life: float) -> Any:
        while not isinstance(operation, kind):
            match operation:
                case Now():
                    operation = flow.send(Moment(now, Life(now - 1000 + life, now - 1000 + life)))
                case Recall():
                    operation = flow.send(Recalled((0,), old))
                case Wait():
                    news = store._news(operation)
                    assert news is not None
                    operation = flow.send(news.result(0))
                case _ if isinstance(operation, Elapsed):
                    operation = flow.send(0.0)
                case _:
                    operation = flow.send(store.perform(operation))
        return operation

    leader = serve(Ask("k", "l", "acme", month))
    finishing = until(leader, next(leader), Finish, 30 * 86400)
    waiters = [serve(Ask("k", "l", "acme", minute)), serve(Ask("k", "l", "acme", month, refresh=True))]
    waiting = [until(waiter, next(waiter), Wait, 60) for waiter in waiters]
    assert store.perform(finishing) is True
    for waiter, operation, life in zip(waiters, waiting, (60, 30 * 86400), strict=True):
        until(waiter, operation, Recall, life)  # it leads, and is not served what is too old for it
        waiter.close()
        store._flights.clear()


@pytest.mark.parametrize("news", [News.BROKE_OFF, Failure("timeout", timeout=1.0)], ids=["a stream", "another's time"])
def test_who_has_waited_for_two_that_came_to_nothing_calls_by_itself(news: Any) -> None:
    """One after another they would fail before it."""
    flow = serve(Ask("k1", "l", "acme", Policy("default"), patience=60.0))
    replies = {Look: Seen(None, Stamps()), Lead: Held("token", 6.0), Elapsed: 0.0, Wait: news}
    asked, operation = Counter[type](), next(flow)
    while not isinstance(operation, Call):
        asked[type(operation)] += 1
        assert asked[Wait] < 3
        operation = flow.send(replies[type(operation)])
    assert asked[Wait] == 2
    assert operation.leads is None
    with pytest.raises(StopIteration) as end:
        flow.send(Called(None, Answer(b"{}"), WHOLE))
    assert (end.value.value.status, end.value.value.reason) == ("miss", "not_shared")
