from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import StrEnum
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

import aicache
from aicache.calls import Calls
from aicache.core.callinfo import CallInfo
from aicache.errors import AicacheError, ArgumentError, TenantMismatch, WrongKind
from aicache.frame import OUTSIDE, current, current_tenant, resumed
from aicache.tenants import normalised, tenant_digest
from tests.claude.together import in_threads

scope = aicache.scope
GLOBAL = aicache.GLOBAL


@pytest.fixture(autouse=True)
def _outside() -> Iterator[None]:
    """No test begins in another's scope, and none leaves one open."""
    assert current() is OUTSIDE
    yield
    assert current() is OUTSIDE


def tenant_of(setting: Any) -> Any:
    with override_settings(AICACHE={"TENANT": setting}):
        return current_tenant()


class TestInheritance:
    def test_outside_of_all_scopes_nothing_is_said(self) -> None:
        assert current_tenant() is None
        assert (current().tenant, current().policy, current().tags, current().vary) == (None, None, frozenset(), ())
        assert (current().locale, current().bypass, current().refresh, current().variant) == ("", False, False, 0)

    def test_an_inner_scope_has_what_it_does_not_set_from_the_outer_one(self) -> None:
        said = {"tenant": "acme", "locale": "de", "policy": "daily", "bypass": True, "refresh": True, "variant": 3}
        with scope(**said), scope():  # type: ignore[arg-type]
            assert {name: getattr(current(), name) for name in said} == said

    def test_what_an_inner_scope_sets_holds_until_it_ends(self) -> None:
        with scope(tenant="acme", locale="de", policy="daily", bypass=True, refresh=True, variant=3):
            with scope(locale="en", policy="chat", bypass=False, refresh=False, variant=0):
                assert (current().locale, current().policy, current().variant) == ("en", "chat", 0)
                assert (current().bypass, current().refresh) == (False, False)
            assert (current().locale, current().policy, current().variant) == ("de", "daily", 3)
            assert (current().bypass, current().refresh) == (True, True)

    def test_tags_and_vary_add_up(self) -> None:
        with scope(tags=["a"], vary=["x"]), scope(tags=["b", "a"], vary=["y", 1]):
            assert current().tags == {"a", "b"}
            assert current().vary == ("x", "y", "1")

    def test_and_what_an_inner_scope_adds_is_gone_with_it(self) -> None:
        with scope(tags=["a"], vary=["x"]):
            with scope(tags=["b"], vary=["y"]):
                pass
            assert current().tags == {"a"}
            assert current().vary == ("x",)

    def test_an_empty_locale_takes_the_outer_one_away(self) -> None:
        with scope(locale="de"), scope(locale=""):
            assert current().locale == ""

    def test_it_may_be_given_iterables_of_any_kind_and_used_again(self) -> None:
        again = scope(tags=(tag for tag in ("a", "b")), vary=iter([1]))
        for _ in range(2):
            with again:
                assert (current().tags, current().vary) == ({"a", "b"}, ("1",))

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=3), max_size=6))
    def test_any_nest_of_scopes_adds_up_and_unwinds(self, nest: list[list[str]]) -> None:
        with ExitStack() as stack:
            for depth, tags in enumerate(nest, 1):
                stack.enter_context(scope(tags=tags))
                assert current().tags == set().union(*nest[:depth])
        assert current() is OUTSIDE


class TestTheTenant:
    def test_another_one_inside_a_tenants_scope_is_refused(self) -> None:
        with scope(tenant="acme"), pytest.raises(TenantMismatch, match="'globex' inside a scope of 'acme'"):
            scope(tenant="globex").__enter__()

    def test_everybody_inside_a_tenants_scope_is_refused(self) -> None:
        with scope(tenant="acme"), pytest.raises(TenantMismatch, match=r"aicache\.GLOBAL inside a scope of 'acme'"):
            scope(tenant=GLOBAL).__enter__()

    def test_a_tenant_inside_everybodys_scope_is_refused(self) -> None:
        with scope(tenant=GLOBAL), pytest.raises(TenantMismatch, match=r"'acme' inside a scope of aicache\.GLOBAL"):
            scope(tenant="acme").__enter__()

    def test_a_refused_scope_leaves_the_one_around_it_as_it_was(self) -> None:
        with scope(tenant="acme", tags=["a"]):
            before = current()
            with pytest.raises(TenantMismatch), scope(tenant="globex", tags=["b"]):
                pytest.fail("the scope opened")
            assert current() is before

    def test_the_mismatch_is_seen_through_scopes_between(self) -> None:
        with scope(tenant="acme"), scope(tags=["a"]), scope(), pytest.raises(TenantMismatch):
            scope(tenant="globex").__enter__()

    @pytest.mark.parametrize(("one", "other"), [("7", 7), (7, "7"), (GLOBAL, GLOBAL), (None, "7"), ("7", None)])
    def test_the_same_one_may_be_named_again(self, one: Any, other: Any) -> None:
        with scope(tenant=one), scope(tenant=other):
            assert current_tenant() == (GLOBAL if one is GLOBAL else "7")

    def test_after_one_tenants_scope_another_may_follow(self) -> None:
        for tenant in ("acme", "globex"):
            with scope(tenant=tenant):
                assert current_tenant() == tenant

    @pytest.mark.parametrize(
        ("given", "tenant"),
        [("acme", "acme"), (7, "7"), (0, "0"), (-1, "-1"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (GLOBAL, GLOBAL)],
        ids=repr,
    )
    def test_is_normalised_to_text(self, given: Any, tenant: Any) -> None:
        with scope(tenant=given):
            assert current_tenant() == tenant

    def test_of_an_enumeration_is_its_value(self) -> None:
        class Tenant(StrEnum):
            ACME = "acme"

        with scope(tenant=Tenant.ACME):
            assert (current_tenant(), type(current_tenant())) == ("acme", str)

    @pytest.mark.parametrize(
        "given", [b"acme", 7.0, True, ["acme"], {"acme"}, object, Calls()], ids=lambda given: type(given).__name__
    )
    def test_of_another_type_is_refused_by_value_and_type(self, given: Any) -> None:
        with pytest.raises(ArgumentError, match=r"tenant is .*accepted: str, int, UUID or aicache\.GLOBAL") as caught:
            scope(tenant=given)

        assert f"({type(given).__name__})" in str(caught.value)

    def test_that_is_empty_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="tenant is ''; accepted: a name"):
            scope(tenant="")

    def test_that_cannot_be_encoded_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match=r"tenant .*'\\ud800'"):
            scope(tenant="\ud800")

    @pytest.mark.parametrize("named", ["acme", 7, GLOBAL], ids=repr)
    def test_of_a_single_tenant_site_must_not_be_named(self, named: Any) -> None:
        with override_settings(AICACHE={"SINGLE_TENANT": True}), pytest.raises(TenantMismatch, match="SINGLE_TENANT"):
            scope(tenant=named).__enter__()

    def test_of_a_single_tenant_site_is_there_without_a_scope(self) -> None:
        with override_settings(AICACHE={"SINGLE_TENANT": True}):
            assert current_tenant() is not None
            with scope(tags=["a"]):
                assert current_tenant() is not None

    def test_digests_differ_for_everybody_and_tenants_of_like_names(self) -> None:
        tenants = [GLOBAL, "everybody", "GLOBAL", "aicache.GLOBAL", "Everybody.GLOBAL", "\0", "acme", "ACME"]

        assert len({tenant_digest(tenant) for tenant in tenants}) == len(tenants)
        assert {len(tenant_digest(tenant)) for tenant in [*tenants, "x" * 10_000]} == {32}


class TestTheSitesTenantCallable:
    @pytest.mark.parametrize(
        ("said", "tenant"), [("acme", "acme"), (7, "7"), (0, "0"), (GLOBAL, GLOBAL), (None, None), ("", None)], ids=repr
    )
    def test_is_asked_where_no_scope_names_one(self, said: Any, tenant: Any) -> None:
        assert tenant_of(lambda: said) == tenant

    @pytest.mark.parametrize(
        "said", [b"acme", True, False, 1.5, ["acme"], Calls()], ids=lambda said: type(said).__name__
    )
    def test_that_says_something_odd_is_named(self, said: Any) -> None:
        with pytest.raises(ArgumentError, match=r'AICACHE\["TENANT"\].*accepted: str, int, UUID'):
            tenant_of(lambda: said)

    def test_that_returns_a_coroutine_is_named_and_leaves_none_unawaited(self) -> None:
        async def later() -> str:
            return "acme"

        with pytest.raises(ArgumentError, match=r'AICACHE\["TENANT"\].*\(coroutine\)'):
            tenant_of(lambda: later())
        gc.collect()

    def test_is_asked_at_each_call(self) -> None:
        said = iter(["acme", "globex"])
        with override_settings(AICACHE={"TENANT": lambda: next(said)}):
            assert [current_tenant(), current_tenant()] == ["acme", "globex"]

    def test_is_not_asked_where_a_scope_names_one(self) -> None:
        def ask() -> str:
            pytest.fail("it was asked")

        with override_settings(AICACHE={"TENANT": ask}), scope(tenant="acme"):
            assert current_tenant() == "acme"

    def test_is_asked_in_a_scope_that_names_none(self) -> None:
        with scope(tags=["a"]):
            assert tenant_of(lambda: "acme") == "acme"

    def test_that_needs_the_request_says_nothing_without_one(self) -> None:
        assert tenant_of(lambda request: "acme") is None

    def test_that_can_do_without_the_request_is_asked_without_it(self) -> None:
        assert tenant_of(lambda request=None: "acme") == "acme"

    def test_that_is_async_says_nothing_without_a_request(self) -> None:
        async def ask() -> str:
            return "acme"

        assert tenant_of(ask) is None

    def test_that_raises_is_heard(self) -> None:
        def ask() -> str:
            raise LookupError("no such host")

        with pytest.raises(LookupError, match="no such host"):
            tenant_of(ask)


class TestArgumentsThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("argument", "said"),
        [
            ({"locale": 7}, ["locale is 7", "a language code"]),
            ({"locale": b"de"}, ["locale is b'de'", "a language code"]),
            ({"locale": "\ud800"}, ["locale", "surrogates"]),
            ({"policy": 60}, ["policy is 60", "the name of a policy"]),
            ({"bypass": 1}, ["bypass is 1", "True or False"]),
            ({"bypass": "no"}, ["bypass is 'no'", "True or False"]),
            ({"refresh": 0}, ["refresh is 0", "True or False"]),
            ({"variant": "2"}, ["variant is '2'", "a number"]),
            ({"variant": True}, ["variant is True", "a number"]),
            ({"variant": 1.5}, ["variant is 1.5", "a number"]),
            ({"tags": "article:7"}, ["tags is 'article:7'", "a list, such as tags=['one', 'another']"]),
            ({"tags": b"article:7"}, ["tags is b'article:7'", "a list"]),
            ({"tags": 7}, ["tags is 7", "a list"]),
            ({"tags": None}, ["tags is None", "a list"]),
            ({"tags": ["a", 7]}, ["tags contains 7 (int)", "accepted: str"]),
            ({"tags": [None]}, ["tags contains None (NoneType)", "accepted: str"]),
            ({"tags": [""]}, ["tags contains '' of 0 bytes", "1 to 200 bytes"]),
            ({"tags": ["x" * 201]}, ["of 201 bytes", "1 to 200 bytes", "x" * 60 + "…"]),
            ({"tags": ["ü" * 101]}, ["of 202 bytes", "1 to 200 bytes"]),
            ({"tags": ["\ud800"]}, ["tags", "surrogates"]),
            ({"tags": map(str, range(65))}, ["tags has 65 tags", "at most 64 a call"]),
            ({"vary": "premium"}, ["vary is 'premium'", "a list, such as vary=['one', 'another']"]),
            ({"vary": [True]}, ["vary contains True (bool)", "accepted: str or int"]),
            ({"vary": [1.5]}, ["vary contains 1.5 (float)", "accepted: str or int"]),
            ({"vary": 7}, ["vary is 7", "a list"]),
            ({"vary": ["\udfff"]}, ["vary", "surrogates"]),
        ],
        ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
    )
    def test_are_named_with_their_value_and_what_is_accepted(self, argument: dict[str, Any], said: list[str]) -> None:
        with pytest.raises(ArgumentError) as caught:
            scope(**argument)

        for word in said:
            assert word in str(caught.value)

    def test_a_long_tag_is_not_shown_whole(self) -> None:
        with pytest.raises(ArgumentError) as caught:
            scope(tags=["x" * 100_000])

        assert len(str(caught.value)) < 200

    def test_an_unknown_policy_is_named_when_the_scope_opens(self) -> None:
        made = scope(policy="dayly")  # settings may not be there yet where a decorator stands

        with pytest.raises(ArgumentError, match=r"'dayly'; known: .*daily"):
            made.__enter__()

    @pytest.mark.parametrize("arguments", [{"tennant": "acme"}, {"ttl": 5}])
    def test_an_unknown_argument_is_a_type_error(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=next(iter(arguments))):
            scope(**arguments)

    def test_the_tenant_is_not_taken_by_position(self) -> None:
        with pytest.raises(TypeError):
            scope("acme")  # type: ignore[misc]

    def test_they_are_errors_of_aicache_and_of_python(self) -> None:
        with pytest.raises(AicacheError):
            scope(tags="a")
        with pytest.raises(ValueError, match="tags"):
            scope(tags="a")

    def test_a_tag_may_be_as_long_as_is_accepted_and_there_may_be_as_many(self) -> None:
        with scope(tags=["ü" * 100, *map(str, range(63))]):
            assert len(current().tags) == 64

    def test_the_same_tag_counts_once(self) -> None:
        with scope(tags=["a"] * 100), scope(tags=map(str, range(63))), scope(tags=["a"]):
            assert len(current().tags) == 64

    def test_tags_that_add_up_to_too_many_are_refused_and_leave_the_outer_scope(self) -> None:
        with scope(tags=map(str, range(60))):
            with pytest.raises(ArgumentError, match="tags add up to 65; accepted: at most 64 a call"):
                scope(tags=["a", "b", "c", "d", "e"]).__enter__()
            assert len(current().tags) == 60


class TestExceptions:
    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    def test_end_the_scope_and_pass(self, error: type[BaseException]) -> None:
        with scope(tenant="acme"):
            before = current()
            with pytest.raises(error), scope(tags=["a"]):
                raise error
            assert current() is before

    def test_of_a_decorated_function_end_its_scope(self) -> None:
        @scope(tenant="acme")
        def fail() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            fail()
        assert current() is OUTSIDE


class TestADecorated:
    def test_function_runs_in_the_scope_and_is_otherwise_the_same(self) -> None:
        @scope(tenant="acme", tags=["a"])
        def ask(one: int, *, two: int) -> tuple[Any, int]:
            """Asks."""
            return current_tenant(), one + two

        assert ask(1, two=2) == ("acme", 3)
        assert (ask.__name__, ask.__doc__) == ("ask", "Asks.")
        assert current() is OUTSIDE

    def test_async_function_runs_in_the_scope_while_it_is_awaited(self) -> None:
        @scope(tenant="acme")
        async def ask() -> Any:
            await asyncio.sleep(0)
            return current_tenant()

        async def asking() -> list[Any]:
            coroutine = ask()
            return [current_tenant(), await coroutine, current_tenant()]

        assert asyncio.run(asking()) == [None, "acme", None]
        assert inspect.iscoroutinefunction(ask)

    def test_function_that_hands_out_a_coroutine_runs_it_in_the_scope(self) -> None:
        def logged(function: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
            return lambda: function()

        @scope(tenant="acme")
        @logged
        async def ask() -> Any:
            await asyncio.sleep(0)
            return current_tenant()

        async def asking() -> Any:
            return await ask()

        assert asyncio.run(asking()) == "acme"

    @pytest.mark.parametrize("wrap", [functools.partial, sync_to_async])
    def test_callable_object_runs_in_the_scope(self, wrap: Any) -> None:
        ask = scope(tenant="acme")(wrap(current_tenant))

        async def asking() -> Any:
            found = ask()
            return await found if asyncio.iscoroutine(found) else found

        assert asyncio.run(asking()) == "acme"

    def test_method_gets_its_object(self) -> None:
        class Desk:
            tenant = "none"

            @scope(tenant="acme")
            def ask(self) -> Any:
                return self, current_tenant()

            @staticmethod
            @scope(tenant="acme")
            def ask_anywhere() -> Any:
                return current_tenant()

        desk = Desk()
        assert desk.ask() == (desk, "acme")
        assert desk.ask_anywhere() == "acme"

    def test_function_opens_a_scope_of_its_own_at_each_call(self) -> None:
        seen = []

        @scope(tags=["a"])
        def ask(depth: int) -> None:
            seen.append(len(current().calls))
            if depth:
                ask(depth - 1)

        ask(2)
        ask(0)
        assert seen == [1, 2, 3, 1]

    def test_function_is_refused_another_tenants_scope_at_the_call(self) -> None:
        @scope(tenant="acme")
        def ask() -> None:
            pytest.fail("it ran")

        with scope(tenant="globex"), pytest.raises(TenantMismatch):
            ask()

    @pytest.mark.parametrize("disguise", [lambda function: function, lambda function: lambda: function()])
    def test_async_function_is_refused_another_tenants_scope_and_leaves_nothing_unawaited(self, disguise: Any) -> None:
        async def ask() -> None:
            pytest.fail("it ran")

        decorated = scope(tenant="acme")(disguise(ask))

        async def asking() -> None:
            with scope(tenant="globex"):
                await decorated()

        with pytest.raises(TenantMismatch):
            asyncio.run(asking())
        gc.collect()

    def test_coroutine_that_was_made_elsewhere_is_refused_there_too(self) -> None:
        async def ask() -> None:
            pytest.fail("it ran")

        made = scope(tenant="acme")(lambda: ask())()

        async def asking() -> None:
            with scope(tenant="globex"):
                await made

        with pytest.raises(TenantMismatch):
            asyncio.run(asking())
        gc.collect()

    def test_generator_function_is_refused_and_told_why(self) -> None:
        def chunks() -> Iterator[str]:
            yield "a"

        with pytest.raises(WrongKind, match=r"chunks'.*its consumer's code.*open the scope inside it"):
            scope(tenant="acme")(chunks)

    def test_async_generator_function_is_refused_and_told_why(self) -> None:
        async def chunks() -> AsyncIterator[str]:
            yield "a"

        with pytest.raises(WrongKind, match=r"chunks'.*its consumer's code.*open the scope inside it"):
            scope(tenant="acme")(chunks)

    def test_generator_in_disguise_is_refused_too(self) -> None:
        def chunks(first: str) -> Iterator[str]:
            yield first

        class Chunks:
            def __call__(self) -> Iterator[str]:
                yield "a"

        for disguised in (functools.partial(chunks, "a"), Chunks()):
            with pytest.raises(WrongKind, match="generator function"):
                scope(tenant="acme")(disguised)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "thing", [7, None, "ask", int, classmethod(len), property(len)], ids=lambda t: str(type(t))
    )
    def test_thing_that_is_no_function_is_refused(self, thing: Any) -> None:
        with pytest.raises(WrongKind, match=r"cannot decorate .*accepted: a function"):
            scope(tenant="acme")(thing)


class TestTheScopeIsSeen:
    def test_after_an_await_and_in_gathered_tasks(self) -> None:
        async def ask() -> Any:
            await asyncio.sleep(0)
            return current_tenant()

        async def asking() -> list[Any]:
            with scope(tenant="acme"):
                return [await ask(), *await asyncio.gather(ask(), ask()), await asyncio.create_task(ask())]

        assert asyncio.run(asking()) == ["acme"] * 4

    def test_by_a_task_that_outlives_it(self) -> None:
        async def asking() -> list[Any]:
            ended = asyncio.Event()

            async def ask() -> Any:
                await ended.wait()
                return current_tenant()

            with scope(tenant="acme"):
                task = asyncio.create_task(ask())
            ended.set()
            return [await task, current_tenant()]

        assert asyncio.run(asking()) == ["acme", None]

    def test_in_threads_that_asyncio_or_asgiref_send_work_to(self) -> None:
        async def asking() -> list[Any]:
            with scope(tenant="acme"):
                return [await asyncio.to_thread(current_tenant), await sync_to_async(current_tenant)()]

        assert asyncio.run(asking()) == ["acme", "acme"]

    def test_in_no_thread_of_a_plain_pool(self) -> None:
        with ThreadPoolExecutor(1) as pool, scope(tenant="acme"):
            assert pool.submit(current_tenant).result() is None

    def test_in_no_new_thread(self) -> None:
        seen: list[Any] = []
        with scope(tenant="acme"):
            thread = threading.Thread(target=lambda: seen.append(current_tenant()))
            thread.start()
            thread.join()

        assert seen == [None]

    def test_in_no_pools_thread_after_a_task_there_had_one(self) -> None:
        def ask() -> Any:
            with scope(tenant="acme"):
                return current_tenant()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(ask).result() == "acme"
            assert pool.submit(current_tenant).result() is None

    def test_by_no_other_thread(self) -> None:
        together = threading.Barrier(8)

        def ask(number: int) -> set[Any]:
            seen = set()
            for _ in range(20):
                with scope(tenant=number, tags=[str(number)]):
                    together.wait(30)
                    seen.add((current_tenant(), current().tags))
                    together.wait(30)
            return seen

        assert in_threads(8, ask) == [{(str(number), frozenset({str(number)}))} for number in range(8)]

    def test_by_no_other_task(self) -> None:
        async def ask(number: int, together: asyncio.Barrier) -> set[Any]:
            seen = set()
            for _ in range(20):
                with scope(tenant=number):
                    await together.wait()
                    seen.add(current_tenant())
                    await together.wait()
            return seen

        async def asking() -> list[set[Any]]:
            together = asyncio.Barrier(8)
            return await asyncio.gather(*(ask(number, together) for number in range(8)))

        assert asyncio.run(asking()) == [{str(number)} for number in range(8)]


class TestOneScopeObject:
    def test_may_be_open_many_times_at_once_in_many_threads(self) -> None:
        shared = scope(tenant="acme", tags=["a"])
        together = threading.Barrier(8)

        def ask(number: int) -> Any:
            with shared as calls:
                together.wait(30)
                for frame_calls in current().calls:
                    frame_calls.record(str(number), CallInfo("miss"))
                together.wait(30)
                seen = (current_tenant(), len(calls))
            return seen, current_tenant()

        assert in_threads(8, ask) == [(("acme", 1), None)] * 8

    def test_may_be_opened_inside_itself(self) -> None:
        again = scope(tags=["a"], vary=["x"])
        with again as outer, again as inner:
            assert current().vary == ("x", "x")
            assert outer is not inner
            with again:
                assert len(current().calls) == 3
            assert len(current().calls) == 2

    def test_may_decorate_many_tasks_that_overlap(self) -> None:
        @scope(tags=["a"])
        async def ask(depth: int) -> int:
            await asyncio.sleep(0)
            if depth:
                await asyncio.gather(ask(depth - 1), ask(depth - 1))
            return len(current().calls)

        async def asking() -> list[int]:
            return await asyncio.gather(*(ask(3) for _ in range(5)))

        assert asyncio.run(asking()) == [1] * 5


class TestScopesThatEndOutOfTurn:
    """A ``with`` inside a generator stays open in its consumer until the generator goes on."""

    def test_a_generator_that_is_not_finished_does_not_keep_the_scope_around_it_open(self) -> None:
        def chunks() -> Iterator[str]:
            with scope(tags=["inner"]):
                yield "a"

        unfinished = chunks()
        with scope(tenant="acme"):
            next(unfinished)
        assert current() is OUTSIDE
        assert current_tenant() is None
        unfinished.close()

    def test_what_is_closed_late_ends_nobody_elses_scope(self) -> None:
        def chunks() -> Iterator[str]:
            with scope(tags=["inner"]):
                yield "a"

        unfinished = chunks()
        with scope(tenant="acme"):
            next(unfinished)
        with scope(tenant="globex"):
            unfinished.close()
            assert current_tenant() == "globex"

    def test_a_generator_goes_on_without_the_tenant_whose_scope_has_ended(self) -> None:
        def chunks() -> Iterator[Any]:
            with scope(tags=["inner"]):
                yield None
                yield current_tenant()

        unfinished = chunks()
        with scope(tenant="acme"):
            next(unfinished)
        assert next(unfinished) is None
        unfinished.close()

    def test_scopes_that_are_left_in_the_wrong_order_leave_none_open(self) -> None:
        one, other = scope(tenant="acme"), scope(tags=["a"])
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert current() is OUTSIDE
        other.__exit__(None, None, None)
        assert current() is OUTSIDE

    def test_a_scope_that_is_left_in_another_context_is_left_in_none(self) -> None:
        opened = scope(tenant="acme")
        opened.__enter__()
        elsewhere = contextvars.Context()

        def leave() -> Any:
            with scope(tenant="globex"):
                opened.__exit__(None, None, None)
                return current_tenant()

        assert elsewhere.run(leave) == "globex"
        assert current_tenant() == "acme"
        opened.__exit__(None, None, None)

    def test_leaving_twice_is_leaving_once(self) -> None:
        with scope(tenant="acme"):
            inner = scope(tags=["a"])
            inner.__enter__()
            inner.__exit__(None, None, None)
            inner.__exit__(None, None, None)
            assert current_tenant() == "acme"


def test_a_scope_that_was_left_can_be_stepped_back_into() -> None:
    with scope(tenant="acme"):
        left = current()
    with scope(tenant="globex"):
        with resumed(left):
            assert current_tenant() == "acme"
            with scope(tags=["a"]):
                assert current_tenant() == "acme"
        assert current_tenant() == "globex"


def test_normalising_gives_nobody_for_nothing() -> None:
    assert normalised(None, "tenant") is None
    assert normalised("", "tenant") is None


def test_a_scope_is_no_async_context_manager_and_need_not_be() -> None:
    async def asking() -> Any:
        with scope(tenant="acme"):
            await asyncio.sleep(0)
            return current_tenant()

    assert asyncio.run(asking()) == "acme"
