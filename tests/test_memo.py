from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.test import override_settings

import aicache
from aicache.cache import Cache, pinned
from aicache.conf import cache_configuration, get_settings
from aicache.core.operations import Wait
from aicache.core.turns import News
from aicache.errors import ArgumentError, WrongKind
from aicache.frame import current_tenant
from aicache.store import Address, Store
from aicache.testing.isolation import memory
from aicache.testing.memory import MemoryStore
from tests.claude.together import in_threads

REQUEST = {"model": "some-embedder", "embed": "refund"}


class Provider:
    """Some other AI: counts what it is asked, and answers as it was told to."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.count = 0
        self.answer: Any = [0.25, 0.5]
        self.release: threading.Event | None = None
        self.asked = threading.Event()

    def call(self) -> Any:
        self.count += 1
        self.asked.set()
        if self.release is not None:
            assert self.release.wait(30)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def acall(self) -> Any:
        return await asyncio.to_thread(self.call)

    def remember(self, request: Any = REQUEST, call: Callable[[], Any] | None = None) -> Any:
        """``aicache.remember`` in the colour of this test."""
        if self.colour == "sync":
            return aicache.remember(request, call or self.call)

        async def remembering() -> Any:
            return await aicache.remember(request, call or self.acall)

        return asyncio.run(remembering())


class Apart:
    """Something done in a thread that sees the caller's scopes, in a ``with`` that waits for its end."""

    def __init__(self, act: Callable[[], Any], many: int = 1) -> None:
        self.results: list[Any] = []
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(lambda: self.results.extend(in_threads(many, lambda _: act())),)
        )

    def __enter__(self) -> list[Any]:
        self._thread.start()
        return self.results

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)


class Watched:
    """A store that is told nothing else, and remembers who came to wait."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.waits: list[Wait] = []

    def perform(self, operation: Any) -> Any:
        self._watch(operation)
        return self.store.perform(operation)

    async def aperform(self, operation: Any) -> Any:
        self._watch(operation)
        return await self.store.aperform(operation)

    def _watch(self, operation: Any) -> None:
        if isinstance(operation, Wait):
            self.waits.append(operation)

    def until(self, waiting: int) -> None:
        """Returns once so many have come to wait."""
        pause = threading.Event()
        for _ in range(3000):
            if len(self.waits) >= waiting:
                return
            pause.wait(0.01)
        pytest.fail(f"{len(self.waits)} came to wait, and not {waiting}")


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Watched]:
    made: Any = MemoryStore()
    if request.param == "redis":
        made = Store(Address.of_alias(cache_configuration(get_settings())), uuid.uuid4().hex)
    watched = Watched(made)
    with pinned(Cache(watched)):
        yield watched
    made.close()


@pytest.fixture(params=["sync", "async"])
def provider(request: pytest.FixtureRequest, store: Watched) -> Provider:
    return Provider(request.param)


class TestTheSameRequest:
    def test_is_paid_once(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme") as calls:
            values = [provider.remember(), provider.remember()]

        assert values == [[0.25, 0.5]] * 2
        assert provider.count == 1
        assert [(call.status, call.reason) for call in calls] == [("miss", "new"), ("hit", "")]
        assert [call.stored for call in calls] == [True, True]

    def test_is_the_same_whatever_the_order_of_its_names(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme"):
            provider.remember({"a": 1, "b": {"c": 2, "d": 3}})
            provider.remember({"b": {"d": 3, "c": 2}, "a": 1})

        assert provider.count == 1

    def test_asked_by_many_at_once_is_one_call(self, provider: Provider, store: Watched) -> None:
        provider.release = threading.Event()
        with aicache.scope(tenant="acme") as calls, Apart(provider.remember) as led:
            assert provider.asked.wait(30)
            with Apart(provider.remember, many=5) as waited:
                store.until(waiting=5)
                provider.release.set()

        assert led + waited == [[0.25, 0.5]] * 6
        assert provider.count == 1
        assert sorted(call.status for call in calls) == ["coalesced"] * 5 + ["miss"]
        assert all(call.waited > 0 for call in calls if call.status == "coalesced")

    @pytest.mark.parametrize(
        "other",
        [
            {**REQUEST, "embed": "refunds"},
            {**REQUEST, "new": None},
            {**REQUEST, "stream": True},
            {**REQUEST, "metadata": {}},
            {**REQUEST, "cache_control": {}},
            {"request": REQUEST},
            {},
        ],
        ids=str,
    )
    def test_is_not_another_one(self, provider: Provider, other: dict[str, Any]) -> None:
        with aicache.scope(tenant="acme"):
            provider.remember()
            provider.remember(other)

        assert provider.count == 2

    def test_is_not_another_tenants(self, provider: Provider) -> None:
        values = []
        for tenant in ("acme", "globex", aicache.GLOBAL, "acme"):
            with aicache.scope(tenant=tenant):
                provider.answer = [str(tenant)]
                values.append(provider.remember())

        assert values == [["acme"], ["globex"], ["Everybody.GLOBAL"], ["acme"]]
        assert provider.count == 3

    @pytest.mark.parametrize("scope", [{"variant": 1}, {"locale": "de"}, {"tags": ["a"]}, {"vary": ["x"]}], ids=str)
    def test_is_another_answer_in_another_scope(self, provider: Provider, scope: dict[str, Any]) -> None:
        with aicache.scope(tenant="acme"):
            provider.remember()
            with aicache.scope(**scope):
                provider.remember()
                provider.remember()

        assert provider.count == 2

    def test_is_asked_anew_where_a_refresh_is_wanted_and_the_new_answer_kept(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme") as calls:
            provider.remember()
            provider.answer = "new"
            with aicache.scope(refresh=True):
                assert provider.remember() == "new"
            assert provider.remember() == "new"

        assert [(call.status, call.reason) for call in calls] == [("miss", "new"), ("miss", "refresh"), ("hit", "")]

    def test_is_no_longer_kept_where_the_policy_gives_it_no_time(self, provider: Provider) -> None:
        with (
            override_settings(AICACHE={"POLICIES": {"none": {"ttl": 0}}}),
            aicache.scope(tenant="acme", policy="none") as calls,
        ):
            provider.remember()
            provider.remember()

        assert [(call.status, call.stored, call.reason) for call in calls] == [("miss", False, "no_ttl")] * 2


class TestPassedBy:
    def test_where_nobody_says_for_whom(self, provider: Provider) -> None:
        with aicache.scope() as calls:
            provider.remember()
            provider.remember()

        assert provider.count == 2
        assert [(call.status, call.key, call.stored) for call in calls] == [("unscoped", "", False)] * 2

    def test_outside_of_all_scopes(self, provider: Provider) -> None:
        assert provider.remember() == provider.remember()
        assert provider.count == 2

    def test_where_a_bypass_is_asked_for(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme") as calls:
            provider.remember()
            with aicache.scope(bypass=True):
                provider.answer = "new"
                assert provider.remember() == "new"
            assert provider.remember() == [0.25, 0.5]

        assert [(call.status, call.reason) for call in calls] == [("miss", "new"), ("bypass", "asked"), ("hit", "")]

    def test_where_the_site_has_switched_it_off(self, provider: Provider) -> None:
        with override_settings(AICACHE={"ENABLED": False}), aicache.scope(tenant="acme") as calls:
            provider.remember()
            provider.remember()

        assert [(call.status, call.reason) for call in calls] == [("bypass", "disabled")] * 2

    def test_where_the_fleet_is_switched_off(self, provider: Provider, store: Watched) -> None:
        store.store.switch(False)
        with aicache.scope(tenant="acme") as calls:
            provider.remember()
            provider.remember()

        assert [(call.status, call.reason) for call in calls] == [("bypass", "switched_off")] * 2


def test_an_outage_costs_the_cache_and_not_the_answer() -> None:
    provider = Provider("sync")
    with memory() as store, aicache.scope(tenant="acme") as calls:
        provider.remember()
        store.down = True
        assert provider.remember() == [0.25, 0.5]
        store.down = False
        provider.remember()

    assert [call.status for call in calls] == ["miss", "degraded", "hit"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_outage_lets_those_go_who_wait(colour: str) -> None:
    provider = Provider(colour)
    provider.release = threading.Event()
    memory_ = MemoryStore()
    store = Watched(memory_)
    with pinned(Cache(store)), aicache.scope(tenant="acme") as calls:
        with Apart(provider.remember) as led:
            assert provider.asked.wait(30)
            provider.asked.clear()
            with Apart(provider.remember) as waited:
                store.until(waiting=1)
                memory_.down = True
                assert provider.asked.wait(30)  # though the leader is not back yet
                provider.release.set()
        memory_.down = False
        provider.remember()

    assert led + waited == [[0.25, 0.5]] * 2
    assert sorted((call.status, call.reason) for call in calls) == [
        ("degraded", "unreachable"),
        ("miss", "new"),
        ("miss", "unavailable"),
    ]


class TestTheValue:
    @pytest.mark.parametrize(
        ("answer", "value"),
        [
            ((1, (2, 3)), [1, [2, 3]]),
            ({"a": (1,)}, {"a": [1]}),
            ({1: "one", None: 0}, {"1": "one", "null": 0}),
            (None, None),
            (0, 0),
            ("", ""),
            (False, False),
            ([], []),
            ("größe 💶", "größe 💶"),
            (1.5e300, 1.5e300),
            (2**70, 2**70),
        ],
        ids=repr,
    )
    def test_is_as_json_gives_it_back_on_a_miss_too(self, provider: Provider, answer: Any, value: Any) -> None:
        provider.answer = answer
        with aicache.scope(tenant="acme") as calls:
            values = [provider.remember(), provider.remember()]

        assert values == [value, value]
        assert [type(found) for found in values] == [type(value)] * 2
        assert [call.status for call in calls] == ["miss", "hit"]

    def test_is_so_where_the_cache_is_passed_by_too(self, provider: Provider) -> None:
        provider.answer = (1, 2)

        assert provider.remember() == [1, 2]

    def test_is_each_callers_own(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme"):
            provider.remember().append("changed")
            assert provider.remember() == [0.25, 0.5]

    @pytest.mark.parametrize(
        "answer", [object(), {1, 2}, b"bytes", float("nan"), [float("inf")], "\ud800", {(1, 2): 3}]
    )
    def test_that_is_no_json_is_refused_and_not_kept(self, provider: Provider, answer: Any) -> None:
        provider.answer = answer
        with aicache.scope(tenant="acme") as calls:
            with pytest.raises(ArgumentError, match=f"call returned '{type(answer).__name__}', which is no JSON"):
                provider.remember()
            provider.answer = "good"
            assert provider.remember() == "good"

        assert [call.status for call in calls] == ["error", "miss"]

    def test_that_holds_itself_is_refused(self, provider: Provider) -> None:
        provider.answer = []
        provider.answer.append(provider.answer)

        with aicache.scope(tenant="acme"), pytest.raises(ArgumentError, match="no JSON"):
            provider.remember()

    def test_that_is_larger_than_the_policy_says_is_given_and_not_kept(self, provider: Provider) -> None:
        provider.answer = "x" * 1_000_001
        with aicache.scope(tenant="acme") as calls:
            assert provider.remember() == provider.remember() == provider.answer

        assert [(call.status, call.reason) for call in calls] == [("miss", "too_large")] * 2


class TestACallThatFails:
    def test_raises_is_counted_and_is_not_kept(self, provider: Provider) -> None:
        provider.answer = LookupError("out of order")
        with aicache.scope(tenant="acme") as calls:
            for _ in range(2):
                with pytest.raises(LookupError, match="out of order"):
                    provider.remember()
            provider.answer = "good"
            assert provider.remember() == "good"

        assert [call.status for call in calls] == ["error", "error", "miss"]
        assert provider.count == 3

    @pytest.mark.parametrize("scope", [{}, {"tenant": "acme", "bypass": True}], ids=str)
    def test_is_counted_where_the_cache_is_passed_by(self, provider: Provider, scope: dict[str, Any]) -> None:
        provider.answer = LookupError()
        with aicache.scope(**scope) as calls, pytest.raises(LookupError):
            provider.remember()

        assert [call.status for call in calls] == ["error"]

    def test_lets_who_waited_call_by_himself(self, provider: Provider, store: Watched) -> None:
        provider.release = threading.Event()
        provider.answer = LookupError("out of order")
        with aicache.scope(tenant="acme") as calls, Apart(provider.remember) as led:
            assert provider.asked.wait(30)
            with Apart(provider.remember) as waited:
                store.until(waiting=1)
                provider.release.set()

        assert [type(error) for error in (*led, *waited)] == [LookupError] * 2
        assert provider.count == 2
        assert [call.status for call in calls] == ["error", "error"]

    def test_lets_all_who_waited_call_at_once_and_not_one_after_another(
        self, provider: Provider, store: Watched
    ) -> None:
        many = 6
        everybody_else = threading.Barrier(many - 1)

        def call() -> Any:
            provider.count += 1
            if provider.count == 1:
                store.until(waiting=many - 1)
                raise LookupError
            everybody_else.wait(10)
            return "answer"

        async def acall() -> Any:
            return await asyncio.to_thread(call)

        with aicache.scope(tenant="acme") as calls:
            values = in_threads(many, lambda _: provider.remember(call=call if provider.colour == "sync" else acall))

        assert values.count("answer") == many - 1
        assert sorted(call.reason for call in calls) == ["not_shared"] * (many - 1) + ["raised:LookupError"]


class TestWhatCannotBeUsed:
    @pytest.mark.parametrize("request_", [None, "text", ["list"], 7])
    def test_a_request_that_is_no_mapping(self, request_: Any) -> None:
        with pytest.raises(ArgumentError, match=r"request is .*; accepted: a JSON-able mapping"):
            aicache.remember(request_, int)

    @pytest.mark.parametrize(
        "request_", [{"a": object()}, {"a": {1}}, {"a": float("nan")}, {"a": "\ud800"}, {7: "a"}, {"a": b"b"}]
    )
    def test_a_request_that_is_no_json(self, provider: Provider, request_: Any) -> None:
        with aicache.scope(tenant="acme"), pytest.raises(ArgumentError, match=r"request is no JSON: .*accepted"):
            provider.remember(request_)
        assert provider.count == 0

    @pytest.mark.parametrize("call", [None, "text", [1.0]])
    def test_a_call_that_is_no_function(self, call: Any) -> None:
        with pytest.raises(ArgumentError, match=r"call is .*; accepted: a function of no arguments"):
            aicache.remember(REQUEST, call)

    @pytest.mark.parametrize("scope", [{}, {"tenant": "acme"}], ids=str)
    @pytest.mark.usefixtures("store")
    def test_an_async_client_given_to_sync_code(self, scope: dict[str, Any]) -> None:
        provider = Provider("sync")

        with (
            aicache.scope(**scope),
            pytest.raises(WrongKind, match=r"an awaitable: .*accepted: an `async def`"),
        ):
            aicache.remember(REQUEST, lambda: provider.acall())
        gc.collect()  # a coroutine that was never awaited would warn here
        assert provider.count == 0

    @pytest.mark.usefixtures("store")
    def test_a_mistake_leaves_nobody_waiting(self) -> None:
        provider = Provider("sync")
        with aicache.scope(tenant="acme"):
            with pytest.raises(WrongKind):
                aicache.remember(REQUEST, lambda: provider.acall())
            assert provider.remember() == [0.25, 0.5]


class TestACallMayBe:
    @pytest.mark.usefixtures("store")
    def test_any_kind_of_sync_function(self) -> None:
        with aicache.scope(tenant="acme"):
            assert aicache.remember({"n": 1}, functools.partial(sorted, (2, 1))) == [1, 2]
            assert aicache.remember({"n": 2}, dict) == {}

    @pytest.mark.usefixtures("store")
    def test_any_kind_of_async_function(self) -> None:
        async def add(one: int, two: int) -> int:
            return one + two

        class Adder:
            async def __call__(self) -> int:
                return 5

        async def asking() -> list[Any]:
            with aicache.scope(tenant="acme"):
                return [
                    await aicache.remember({"n": 1}, functools.partial(add, 1, 2)),
                    await aicache.remember({"n": 2}, Adder()),
                ]

        assert asyncio.run(asking()) == [3, 5]

    def test_made_in_the_scope_of_its_caller(self, provider: Provider) -> None:
        async def acall() -> Any:
            return current_tenant()

        with aicache.scope(tenant="acme"):
            assert provider.remember(call=current_tenant if provider.colour == "sync" else acall) == "acme"

    def test_another_remembered_call(self, provider: Provider) -> None:
        with aicache.scope(tenant="acme") as calls:
            if provider.colour == "sync":
                value = provider.remember({"n": 1}, lambda: aicache.remember({"n": 2}, provider.call))
            else:

                async def outer() -> Any:
                    return await aicache.remember({"n": 2}, provider.acall)

                value = provider.remember({"n": 1}, outer)

        assert value == [0.25, 0.5]
        assert [call.status for call in calls] == ["miss", "miss"]

    def test_one_that_asks_its_own_question(self, provider: Provider) -> None:
        async def outer() -> Any:
            return await aicache.remember(REQUEST, provider.acall)

        with (
            override_settings(AICACHE={"POLICIES": {"patient": {"wait": 5}}}),
            aicache.scope(tenant="acme", policy="patient") as calls,
        ):
            if provider.colour == "sync":
                value = provider.remember(call=lambda: aicache.remember(REQUEST, provider.call))
            else:
                value = provider.remember(call=outer)

        assert value == [0.25, 0.5]
        assert [(call.status, call.reason) for call in calls] == [("miss", "not_shared"), ("miss", "new")]


@pytest.mark.usefixtures("store")
def test_on_another_event_loop_than_asyncios_the_cache_is_passed_by() -> None:
    async def call() -> str:
        return "answer"

    with aicache.scope(tenant="acme") as calls:
        for _ in range(2):
            with pytest.raises(StopIteration) as end:
                aicache.remember(REQUEST, call).send(None)
            assert end.value.value == "answer"

    assert [(call.status, call.reason) for call in calls] == [("degraded", "no_event_loop")] * 2


@pytest.mark.parametrize(("policy", "status"), [("static", "hit"), ("daily", "miss"), ("hourly", "miss")])
def test_what_was_kept_yesterday_is_none_of_todays(policy: str, status: str) -> None:
    provider = Provider("sync")
    with memory() as store, aicache.scope(tenant="acme", policy="static") as calls:
        provider.remember()
        for place, entry in store._entries.items():
            store._entries[place] = replace(entry, stored_at=entry.stored_at - 24 * 3600)
        with aicache.scope(policy=policy):
            provider.remember()

    assert calls.last is not None
    assert (calls.last.status, calls.last.reason) == (status, "policy" if status == "miss" else "")


STALE = {"POLICIES": {"stale": {"ttl": 0.05, "stale_while_revalidate": 600}}}


@pytest.mark.usefixtures("store")
def test_where_no_thread_can_be_started_the_stale_answer_is_served_and_the_next_one_renews(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "aicache-renew":
            raise RuntimeError("can't start new thread")
        start(thread)

    provider = Provider("sync")
    with override_settings(AICACHE=STALE), aicache.scope(tenant="acme", policy="stale") as calls:
        provider.remember()
        time.sleep(0.06)
        provider.asked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert provider.remember() == [0.25, 0.5]
        assert provider.remember() == [0.25, 0.5]
        assert provider.asked.wait(10)

    assert [call.status for call in calls] == ["miss", "stale", "stale"]
    assert "a stale answer is not renewed: can't start new thread" in caplog.text


@pytest.mark.usefixtures("store")
def test_a_renewal_that_ends_with_its_loop_is_not_paid_for_by_each_who_comes() -> None:
    begun: list[int] = []

    async def call() -> str:
        begun.append(1)
        if len(begun) > 1:
            await asyncio.sleep(60)
        return "answer"

    async def asking() -> str:
        value: str = await aicache.remember(REQUEST, call)
        await asyncio.sleep(0.02)
        return value

    with override_settings(AICACHE=STALE), aicache.scope(tenant="acme", policy="stale") as calls:
        asyncio.run(asking())
        time.sleep(0.06)
        assert [asyncio.run(asking()) for _ in range(4)] == ["answer"] * 4

    assert [call.status for call in calls][1:] == ["stale"] * 4
    assert len(begun) == 2


class Deaf(Watched):
    """What is told to those who wait is too much for them: they are to look again."""

    def perform(self, operation: Any) -> Any:
        told = super().perform(operation)
        return News.LOOK_AGAIN if isinstance(operation, Wait) else told


def test_who_waited_for_a_refresh_takes_the_answer_that_has_come_since() -> None:
    provider = Provider("sync")
    store = Deaf(MemoryStore())
    with pinned(Cache(store)), aicache.scope(tenant="acme") as calls:
        provider.remember()
        provider.answer, provider.release = "new", threading.Event()
        with aicache.scope(refresh=True), Apart(provider.remember, many=4) as values:
            store.until(waiting=3)
            provider.release.set()

    assert values == ["new"] * 4
    assert provider.count == 2
    assert sorted(call.status for call in calls) == ["coalesced"] * 3 + ["miss"] * 2


def test_many_tasks_of_one_loop_make_one_call(store: Watched) -> None:
    provider = Provider("async")

    async def asking() -> list[Any]:
        released = asyncio.Event()

        async def slow() -> Any:
            provider.count += 1
            await released.wait()
            return "answer"

        tasks = [asyncio.create_task(aicache.remember(REQUEST, slow)) for _ in range(50)]
        while len(store.waits) < 49:
            await asyncio.sleep(0.005)
        released.set()
        return await asyncio.gather(*tasks)

    with aicache.scope(tenant="acme") as calls:
        assert asyncio.run(asking()) == ["answer"] * 50

    assert provider.count == 1
    assert sorted(call.status for call in calls) == ["coalesced"] * 49 + ["miss"]


def test_a_waiter_who_gives_up_takes_nothing_from_the_others(store: Watched) -> None:
    async def asking() -> list[Any]:
        released = asyncio.Event()

        async def slow() -> Any:
            await released.wait()
            return "answer"

        tasks = [asyncio.create_task(aicache.remember(REQUEST, slow)) for _ in range(3)]
        while len(store.waits) < 2:
            await asyncio.sleep(0.005)
        tasks[-1].cancel()
        await asyncio.sleep(0)
        released.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with aicache.scope(tenant="acme"):
        first, second, third = asyncio.run(asking())

    assert (first, second) == ("answer", "answer")
    assert isinstance(third, asyncio.CancelledError)
