from __future__ import annotations

import asyncio
import threading
import unittest
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models.signals import post_delete
from django.db.transaction import Atomic
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

import aicache
from aicache.cache import get_cache
from aicache.conf import get_settings
from aicache.core.operations import Finish, Lead, Look, Unavailable, Wait
from aicache.core.policy import Policy
from aicache.core.records import NO_STAMPS, Ask
from aicache.core.turns import Led, News
from aicache.testing.isolation import CacheTestMixin, committing, isolated, memory
from aicache.testing.memory import MemoryStore

REQUEST = {"embed": "refund"}


def statuses(times: int = 1) -> list[str]:
    with aicache.scope(tenant="acme") as calls:
        for _ in range(times):
            aicache.remember(REQUEST, lambda: "answer")
    return [call.status for call in calls]


class Hooks(list[str]):
    """The hooks that have run."""

    def add(self, name: str, robust: bool = False) -> None:
        transaction.on_commit(self.hook(name), robust=robust)

    def hook(self, name: str) -> Callable[[], None]:
        return lambda: self.append(name)


class _EachTestHasAnEmptyCache:
    """Two tests that would each see what the other stored, whichever comes first."""

    def test_one(self) -> None:
        assert statuses(times=2) == ["miss", "hit"]

    def test_another(self) -> None:
        assert statuses(times=2) == ["miss", "hit"]


class InATestCaseTests(_EachTestHasAnEmptyCache, CacheTestMixin, TestCase):
    pass


class InATransactionTestCaseTests(_EachTestHasAnEmptyCache, CacheTestMixin, TransactionTestCase):
    pass


class InASimpleTestCaseTests(_EachTestHasAnEmptyCache, CacheTestMixin, SimpleTestCase):
    pass


class InMemoryTests(_EachTestHasAnEmptyCache, CacheTestMixin, SimpleTestCase):
    cache_in_memory = True

    def test_needs_no_server(self) -> None:
        assert isinstance(get_cache().store, MemoryStore)
        with override_settings(CACHES={"default": {"LOCATION": "redis://127.0.0.1:1/0", "BACKEND": "redis"}}):
            assert statuses(times=2) == ["miss", "hit"]


class InATestCaseWithASetUpOfItsOwnTests(CacheTestMixin, TestCase):
    def setUp(self) -> None:
        super().setUp()
        assert statuses() == ["miss"]

    def test_what_the_set_up_stored_is_there(self) -> None:
        assert statuses() == ["hit"]


@override_settings(AICACHE={"SINGLE_TENANT": True, "NAMESPACE": "of-the-class"})
class WithSettingsOfItsOwnTests(CacheTestMixin, SimpleTestCase):
    def test_the_sites_other_choices_hold(self) -> None:
        assert get_settings().single_tenant
        assert get_settings().namespace != "of-the-class"


class _OnCommit:
    """When hooks run in production; held to in a test case too."""

    def test_outside_of_atomic_they_run_at_once(self) -> None:
        hooks = Hooks()
        hooks.add("one")
        assert hooks == ["one"]

    def test_inside_they_run_when_it_ends_well(self) -> None:
        hooks = Hooks()
        with transaction.atomic():
            hooks.add("one")
            hooks.add("two")
            assert hooks == []
        assert hooks == ["one", "two"]

    def test_inside_an_inner_one_they_run_when_the_outermost_ends_well(self) -> None:
        hooks = Hooks()
        with transaction.atomic():
            with transaction.atomic():
                hooks.add("inner")
            hooks.add("outer")
            assert hooks == []
        assert hooks == ["inner", "outer"]

    def test_an_atomic_without_a_savepoint_is_one_too(self) -> None:
        hooks = Hooks()
        with transaction.atomic(savepoint=False):
            hooks.add("one")
            with transaction.atomic(savepoint=False):
                hooks.add("two")
            assert hooks == []
        assert hooks == ["one", "two"]

    def test_a_durable_one_is_one_too(self) -> None:
        hooks = Hooks()
        with transaction.atomic(durable=True):
            hooks.add("one")
            assert hooks == []
        assert hooks == ["one"]

    def test_after_djangos_own_delete_they_have_run(self) -> None:
        hooks = Hooks()
        group = Group.objects.create(name="a")

        def deleted(**_: Any) -> None:
            hooks.add("deleted")

        post_delete.connect(deleted, sender=Group)
        try:
            group.delete()
        finally:
            post_delete.disconnect(deleted, sender=Group)
        assert hooks == ["deleted"]

    def test_a_savepoint_that_is_rolled_back_discards_its_own(self) -> None:
        hooks = Hooks()

        @transaction.atomic
        def fail() -> None:
            hooks.add("discarded")
            raise LookupError

        with transaction.atomic():
            hooks.add("kept")
            with pytest.raises(LookupError):
                fail()
            with transaction.atomic():
                hooks.add("kept too")
        assert hooks == ["kept", "kept too"]

    def test_an_atomic_that_fails_discards_them(self) -> None:
        hooks = Hooks()

        @transaction.atomic
        def fail() -> None:
            with transaction.atomic():
                hooks.add("discarded")
            raise LookupError

        with pytest.raises(LookupError):
            fail()
        hooks.add("next")
        assert hooks == ["next"]

    def test_a_rollback_that_was_asked_for_discards_them(self) -> None:
        hooks = Hooks()
        with transaction.atomic():
            hooks.add("discarded")
            transaction.set_rollback(True)
        assert hooks == []

    def test_after_an_error_of_the_database_that_was_caught_they_run(self) -> None:
        hooks = Hooks()
        Group.objects.create(name="a")
        with transaction.atomic():
            hooks.add("one")
            with pytest.raises(IntegrityError), transaction.atomic():
                Group.objects.create(name="a")
        assert hooks == ["one"]

    def test_what_was_written_is_there_when_they_run(self) -> None:
        found = []
        with transaction.atomic():
            Group.objects.create(name="a")
            transaction.on_commit(lambda: found.append(Group.objects.filter(name="a").exists()))
        assert found == [True]

    def test_one_that_registers_another_has_it_run_at_once(self) -> None:
        hooks = Hooks()

        def first() -> None:
            hooks.append("first")
            hooks.add("inside")

        with transaction.atomic():
            transaction.on_commit(first)
            hooks.add("last")
        assert hooks == ["first", "inside", "last"]

    def test_one_that_opens_an_atomic_has_its_hooks_run_at_its_end(self) -> None:
        hooks = Hooks()

        def first() -> None:
            with transaction.atomic(durable=True):
                hooks.add("inside")
                hooks.append("first")

        with transaction.atomic():
            transaction.on_commit(first)
            hooks.add("last")
        assert hooks == ["first", "inside", "last"]

    def test_an_error_in_one_is_raised_and_those_after_it_do_not_run(self) -> None:
        hooks = Hooks()

        def fail() -> None:
            raise LookupError("in a hook")

        @transaction.atomic
        def committed() -> None:
            Group.objects.create(name="a")
            hooks.add("before")
            transaction.on_commit(fail)
            hooks.add("after")

        with pytest.raises(LookupError, match="in a hook"):
            committed()
        assert hooks == ["before"]
        assert Group.objects.filter(name="a").exists()
        hooks.add("next")
        assert hooks == ["before", "next"]

    def test_an_error_of_the_database_in_one_undoes_nothing(self) -> None:
        def fail() -> None:
            raise DatabaseError("in a hook")

        @transaction.atomic
        def committed() -> None:
            Group.objects.create(name="a")
            transaction.on_commit(fail)

        with pytest.raises(DatabaseError, match="in a hook"):
            committed()
        assert Group.objects.filter(name="a").exists()

    def test_an_error_in_a_robust_one_is_logged_and_the_others_run(self) -> None:
        hooks = Hooks()

        def fail() -> None:
            raise LookupError("in a robust hook")

        with self.assertLogs(level="ERROR") as logged, transaction.atomic():  # type: ignore[attr-defined]
            transaction.on_commit(fail, robust=True)
            hooks.add("after")
        assert hooks == ["after"]
        assert "in a robust hook" in "".join(logged.output)


class OnCommitInATestCaseTests(_OnCommit, CacheTestMixin, TestCase):
    pass


class OnCommitInATransactionTestCaseTests(_OnCommit, CacheTestMixin, TransactionTestCase):
    """Production's own behaviour, which the tests above take for true."""


class CommittingTests(TestCase):
    def test_hooks_from_before_do_not_run(self) -> None:
        hooks = Hooks()
        hooks.add("of the test case")
        with committing():
            hooks.add("one")
            with transaction.atomic():
                hooks.add("two")
        assert hooks == ["one", "two"]

    def test_afterwards_no_hook_runs(self) -> None:
        hooks = Hooks()
        with committing():
            pass
        hooks.add("one")
        with transaction.atomic():
            hooks.add("two")
        assert hooks == []

    def test_everything_is_put_back(self) -> None:
        before = (dict(vars(connections["default"])), Atomic.__exit__)
        with pytest.raises(LookupError), committing():
            raise LookupError
        assert (dict(vars(connections["default"])), Atomic.__exit__) == before

    def test_it_may_be_nested(self) -> None:
        hooks = Hooks()
        with committing():
            with committing():
                hooks.add("inner")
            hooks.add("outer")
            with transaction.atomic():
                hooks.add("atomic")
        hooks.add("after")
        assert hooks == ["inner", "outer", "atomic"]

    def test_inside_of_an_atomic_what_that_registers_is_its_own(self) -> None:
        hooks = Hooks()
        with transaction.atomic():
            hooks.add("of the atomic")
            with committing():
                hooks.add("one")
            assert hooks == ["one"]


def run(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun
    return result


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("base", [TestCase, TransactionTestCase, SimpleTestCase])
def test_after_a_test_nothing_is_left_of_it(base: type[SimpleTestCase], in_memory: bool) -> None:
    class Example(CacheTestMixin, base):  # type: ignore[misc,valid-type]
        cache_in_memory = in_memory

        def test_passes(self) -> None:
            assert statuses(times=2) == ["miss", "hit"]
            assert in_memory == isinstance(get_cache().store, MemoryStore)

        def test_fails(self) -> None:
            raise AssertionError

    wrapper = connections["default"]
    before = (get_settings(), Atomic.__exit__, wrapper.on_commit)
    result = run(Example)

    assert (len(result.failures), result.errors) == (1, [])
    assert (get_settings(), Atomic.__exit__, wrapper.on_commit) == before
    assert not isinstance(get_cache().store, MemoryStore)


@pytest.mark.django_db(transaction=True)
def test_where_the_set_up_fails_all_is_put_back_too() -> None:
    class Example(CacheTestMixin, TestCase):
        def setUp(self) -> None:
            super().setUp()
            raise LookupError("in the set up")

        def test_nothing(self) -> None:
            pytest.fail("it ran")

    before = (get_settings(), Atomic.__exit__)
    assert "in the set up" in run(Example).errors[0][1]
    assert (get_settings(), Atomic.__exit__) == before


class TestIsolated:
    def test_sees_nothing_from_outside_and_leaves_nothing_to_it(self) -> None:
        with isolated():
            assert statuses() == ["miss"]
            with isolated():
                assert statuses() == ["miss"]
            assert statuses() == ["hit"]
        with isolated():
            assert statuses() == ["miss"]

    def test_keeps_the_sites_other_choices(self) -> None:
        with override_settings(AICACHE={"DEFAULT_POLICY": "chat"}), isolated():
            assert get_settings().default_policy == "chat"


class TestMemory:
    def test_is_forgotten_at_the_end(self) -> None:
        for _ in range(2):
            with memory():
                assert statuses(times=2) == ["miss", "hit"]

    def test_is_seen_by_the_whole_process(self) -> None:
        seen: list[str] = []
        with memory():
            assert statuses() == ["miss"]
            thread = threading.Thread(target=lambda: seen.extend(statuses()))
            thread.start()
            thread.join()
        assert seen == ["hit"]

    def test_that_is_down_is_so_for_who_comes_to_wait_and_holds_nobody_when_it_is_up_again(self) -> None:
        store = MemoryStore()
        ask = Ask("k", "l", "t", Policy("default"))
        led = store.perform(Lead(ask, NO_STAMPS, since=0.0))
        held = store.perform(Lead(ask, NO_STAMPS, since=0.0))
        store.down = True
        for operation in (
            Wait(ask, held.token, 30),
            Look(ask),
            Lead(ask, NO_STAMPS, since=0.0),
            Finish(ask, NO_STAMPS, led.token),
        ):
            with pytest.raises(Unavailable):
                store.perform(operation)
            with pytest.raises(Unavailable):
                asyncio.run(store.aperform(operation))
        store.down = False
        assert store.perform(Wait(ask, held.token, 30)) is News.LOOK_AGAIN
        assert isinstance(store.perform(Lead(ask, NO_STAMPS, since=0.0)), Led)

    def test_gives_way_to_what_was_there_before(self) -> None:
        with memory() as outer:
            with pytest.raises(LookupError), memory():
                raise LookupError
            assert get_cache().store is outer


@pytest.mark.usefixtures("aicache_isolated")
class TestTheFixtures:
    def test_one(self) -> None:
        assert statuses(times=2) == ["miss", "hit"]

    def test_another(self) -> None:
        assert statuses(times=2) == ["miss", "hit"]

    @pytest.mark.usefixtures("aicache_memory")
    def test_of_memory_needs_no_server(self) -> None:
        assert isinstance(get_cache().store, MemoryStore)
