from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import operator
import os
import signal
import threading
from typing import Any
from unittest.mock import patch

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import aicache
from aicache import apps, freshness, signals
from aicache.cache import Cache, pinned
from aicache.freshness import drain, outbox, stamps
from aicache.freshness.outbox import uncommitted
from aicache.models import Invalidation
from aicache.testing.isolation import CacheTestMixin, committing
from tests.freshness.library.models import Article, Comment, Org, Ticket
from tests.freshness.recorder import Recorder, tags

ALL = next(iter(tags("library.article:*")))
COMMENTS = next(iter(tags("library.comment:*")))


def held(*wanted: Any) -> Any:
    return uncommitted(wanted or (ALL,))


@pytest.mark.django_db(transaction=True)
class TestUncommitted:
    def test_nothing_was_written(self) -> None:
        assert held() is None

    def test_it_lasts_from_the_save_to_the_commit(self) -> None:
        with transaction.atomic():
            assert held() is None
            Article.objects.create(title="a")
            assert held() == ALL
            assert held(COMMENTS, ALL) == ALL
            assert held(COMMENTS) is None
        assert held() is None

    def test_it_ends_with_a_rollback(self) -> None:
        with contextlib.suppress(LookupError), transaction.atomic():
            Article.objects.create(title="a")
            raise LookupError
        assert held() is None

    def test_it_ends_with_the_savepoint_it_was_made_in(self, store: Recorder) -> None:
        with transaction.atomic():
            with contextlib.suppress(LookupError), transaction.atomic():
                Article.objects.create(title="a")
                assert held() == ALL
                raise LookupError
            assert held() is None
            assert not Invalidation.objects.exists()
        assert store.stamped == []

    def test_a_savepoint_that_is_rolled_back_takes_only_its_own(self, store: Recorder) -> None:
        with transaction.atomic():
            first = Article.objects.create(title="a")
            with contextlib.suppress(LookupError), transaction.atomic():
                Article.objects.create(title="b")
                Comment.objects.create(article=first, text="a")
                raise LookupError
            assert held() == ALL
            assert held(COMMENTS) is None
        assert store.tags == tags(f"library.article:{first.pk}", "library.article:*")

    def test_what_was_rolled_back_is_written_again_when_it_is_done_again(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        store.stamped.clear()
        Invalidation.objects.all().delete()
        with transaction.atomic():
            with contextlib.suppress(LookupError), transaction.atomic():
                article.save()
                raise LookupError
            article.save()
            assert Invalidation.objects.count() == 2
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_what_an_inner_savepoint_kept_is_not_written_again_outside(self) -> None:
        article = Article.objects.create(title="a")
        Invalidation.objects.all().delete()
        with transaction.atomic():
            with transaction.atomic():
                article.save()
            article.save()
            assert Invalidation.objects.count() == 2

    def test_a_savepoint_rolled_back_by_hand_takes_its_rows_and_they_are_written_again(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        store.stamped.clear()
        Invalidation.objects.all().delete()
        with transaction.atomic():
            savepoint = connection.savepoint()
            article.save()
            connection.savepoint_rollback(savepoint)
            assert not Invalidation.objects.exists()
            article.save()
            assert Invalidation.objects.count() == 2
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_savepoints_whose_names_are_used_again_take_nothing_of_others(self, store: Recorder) -> None:
        with transaction.atomic():
            connection.savepoint()
            connection.savepoint()
            article = Article.objects.create(title="a")
            transaction.clean_savepoints()
            connection.savepoint_rollback(connection.savepoint())
            assert held() == ALL
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_a_savepoint_of_somebody_elses_name_takes_nothing_away_that_may_stand(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        store.stamped.clear()
        Invalidation.objects.all().delete()
        with transaction.atomic():
            article.save()
            connection.cursor().execute("SAVEPOINT theirs")
            connection.savepoint_rollback("theirs")
            assert held() == ALL
            article.save()  # nobody knows what has become of the rows
            assert Invalidation.objects.count() == 4
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")
        assert Invalidation.objects.exclude(applied_at=None).count() == 2

    def test_what_a_savepoint_took_is_not_marked_as_a_row_may_have_its_number_by_now(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        Invalidation.objects.all().delete()
        with transaction.atomic():
            article.save()
            with contextlib.suppress(LookupError), transaction.atomic():
                Comment.objects.create(article=article, text="a")
                (number,) = Invalidation.objects.filter(tag="library.comment:*").values_list("pk", flat=True)
                raise LookupError
            # As another one may, on SQLite, which gives the number away again.
            Invalidation.objects.create(
                pk=number, tag="x", digest="x" * 32, tenant="", cause="", made_at=timezone.now()
            )
        assert Invalidation.objects.get(applied_at=None).pk == number

    def test_however_many_savepoints_there_were_it_is_applied_once(self, store: Recorder) -> None:
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            for number in range(50):
                Article.objects.get_or_create(title=str(number))
        assert len(store.stamped) == 1
        assert len(store.tags) == 51
        assert sum(query["sql"].startswith("UPDATE") for query in queries) == 1
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_an_atomic_without_savepoint_fails_as_one(self, store: Recorder) -> None:
        with contextlib.suppress(LookupError), transaction.atomic():
            with transaction.atomic(savepoint=False):
                Article.objects.create(title="a")
                raise LookupError
        assert held() is None
        assert store.stamped == []

    def test_another_thread_sees_nothing_of_it(self) -> None:
        seen = []
        with transaction.atomic():
            Article.objects.create(title="a")
            thread = threading.Thread(target=lambda: seen.append(held()))
            thread.start()
            thread.join()
        assert seen == [None]

    def test_a_context_carried_into_another_thread_sees_it(self) -> None:
        seen = []
        with transaction.atomic():
            Article.objects.create(title="a")
            run = contextvars.copy_context().run
            thread = threading.Thread(target=lambda: seen.append(run(held)))
            thread.start()
            thread.join()
        assert seen == [ALL]

    def test_async_code_inside_of_the_transaction_sees_it(self) -> None:
        async def look() -> Any:
            return held(), await sync_to_async(held, thread_sensitive=False)()

        with transaction.atomic():
            Article.objects.create(title="a")
            assert async_to_sync(look)() == (ALL, ALL)
        assert async_to_sync(look)() == (None, None)

    def test_a_context_of_its_own_in_the_same_thread_is_seen(self) -> None:
        with transaction.atomic():
            contextvars.copy_context().run(Article.objects.create, title="a")
            assert held() == ALL

    def test_of_another_tenant_it_is_not(self) -> None:
        org = Org.objects.create(name="a")
        with transaction.atomic():
            Ticket.objects.create(org=org)
            assert held(*tags("library.ticket:*", tenant=org.pk)) is not None
            assert held(*tags("library.ticket:*", tenant=org.pk + 1)) is None
            assert held(*tags("library.ticket:*")) is None

    def test_without_autocommit_it_lasts_to_the_commit(self, store: Recorder) -> None:
        transaction.set_autocommit(False)
        try:
            Article.objects.create(title="a")
            assert held() == ALL
            assert store.stamped == []
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        assert held() is None
        assert store.tags >= {ALL}

    def test_without_autocommit_each_commit_is_one(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        mine = tags(f"library.article:{article.pk}", "library.article:*")
        Invalidation.objects.all().delete()
        store.stamped.clear()
        transaction.set_autocommit(False)
        try:
            for number in (1, 2):
                article.save()
                assert Invalidation.objects.filter(applied_at=None).count() == 2
                transaction.commit()
                assert held() is None
                assert store.taken() == mine
                transaction.rollback()  # not even of the mark
                assert Invalidation.objects.exclude(applied_at=None).count() == 2 * number
            with transaction.atomic():
                article.save()
                assert held() == ALL
            assert held() == ALL
            with contextlib.suppress(LookupError), transaction.atomic():
                Comment.objects.create(article=article, text="a")
                raise LookupError
            transaction.commit()
            assert store.taken() == mine
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert store.stamped == []
        assert Invalidation.objects.exclude(applied_at=None).count() == 6

    def test_without_autocommit_a_commit_that_fails_applies_nothing(self, store: Recorder) -> None:
        transaction.set_autocommit(False)
        try:
            Article.objects.create(title="a")
            with patch.object(connection, "_commit", side_effect=DatabaseError), pytest.raises(DatabaseError):
                transaction.commit()
            assert store.stamped == []
            assert held() == ALL
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert store.stamped == []

    def test_without_autocommit_what_cannot_be_marked_is_no_error_of_the_committer(
        self, store: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        commits = []
        transaction.set_autocommit(False)

        def commit() -> None:
            commits.append(1)
            if len(commits) > 1:
                raise OperationalError("the connection is lost")
            connection.connection.commit()

        try:
            Article.objects.create(title="a")
            with patch.object(connection, "_commit", commit):
                transaction.commit()
            assert held() is None
            assert store.tags >= {ALL}
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert len(commits) == 2
        assert Invalidation.objects.filter(applied_at=None).count() == 2
        assert "not marked so" in caplog.text

    def test_what_the_end_of_that_commits_is_applied_too(self, store: Recorder) -> None:
        transaction.set_autocommit(False)
        try:
            Article.objects.create(title="a")
        finally:
            transaction.set_autocommit(True)  # which SQLite commits by
        assert held() is None
        assert store.tags >= {ALL}
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_without_autocommit_a_rollback_leaves_nothing(self, store: Recorder) -> None:
        transaction.set_autocommit(False)
        try:
            Article.objects.create(title="a")
            transaction.rollback()
            assert held() is None
        finally:
            transaction.set_autocommit(True)
        assert store.stamped == []
        assert not Invalidation.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestAfterTheCommit:
    def test_it_comes_before_the_sites_own_hooks_even_those_that_fail(self, store: Recorder) -> None:
        seen = []

        def fail() -> None:
            seen.append(set(store.tags))
            raise LookupError

        with contextlib.suppress(LookupError), transaction.atomic():
            transaction.on_commit(fail)
            Article.objects.create(title="a")
            with transaction.atomic():
                Comment.objects.create(article=Article.objects.get(), text="a")
        assert len(seen) == 1
        assert seen[0] >= {ALL, COMMENTS}
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_it_reaches_the_sites_store(self, store: Recorder) -> None:
        freshness.start(apps._store)
        with pinned(Cache(store)):
            Article.objects.create(title="a")
        assert store.tags >= {ALL}

    def test_a_save_in_a_hook_is_a_transaction_of_its_own(self, store: Recorder) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: Article.objects.create(title="b"))
            Article.objects.create(title="a")
        assert len(store.stamped) == 2

    def test_while_the_store_is_away_it_is_pending_and_said_once(
        self, store: Recorder, caplog: pytest.LogCaptureFixture, heard: Any
    ) -> None:
        told: list[Any] = []

        def hear(**given: Any) -> None:
            told.append(given)

        heard(signals.invalidation_pending, hear)
        store.down = True
        with caplog.at_level(logging.WARNING, "aicache"):
            Article.objects.create(title="a")
            Article.objects.create(title="b")
            assert Invalidation.objects.filter(applied_at=None).count() == 4
            store.down = False
            Article.objects.create(title="c")
            Article.objects.create(title="d")
        assert Invalidation.objects.filter(applied_at=None).count() == 4
        assert len(told) == 2
        assert ALL in told[0]["tags"]
        assert told[0]["using"] == "default"
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert "pending" in caplog.records[0].message

    def test_what_the_store_raises_is_no_error_of_the_saver(
        self, store: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.error = RuntimeError("a bug")
        Article.objects.create(title="a")
        Article.objects.create(title="b")
        assert Invalidation.objects.filter(applied_at=None).count() == 4
        assert [bool(record.exc_info) for record in caplog.records] == [False, True]

    def test_of_a_process_that_dies_after_the_commit_it_is_pending(self, store: Recorder) -> None:
        store.error = SystemExit()
        with pytest.raises(SystemExit):
            Article.objects.create(title="a")
        store.error = None
        assert Article.objects.count() == 1
        assert drain.drain("default") == 2
        assert store.tags >= {ALL}

    def test_where_it_cannot_be_marked_it_was_applied_all_the_same(
        self, store: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise DatabaseError("locked")

        monkeypatch.setattr("aicache.freshness.outbox.mark", fail)
        Article.objects.create(title="a")
        assert store.tags >= {ALL}
        assert Invalidation.objects.filter(applied_at=None).count() == 2

    def test_it_is_signalled_and_a_receiver_that_fails_is_none_of_the_savers_business(self, heard: Any) -> None:
        told: list[Any] = []

        def fail(**given: Any) -> None:
            told.append(given)
            raise LookupError

        heard(signals.tag_invalidated, fail)
        Article.objects.create(title="a")
        assert told[0]["cause"] == "save library.article"

    def test_a_receiver_that_saves_is_told_of_the_first_only_and_others_of_both(self, heard: Any) -> None:
        told: list[str] = []

        def save(**_: Any) -> None:
            told.append("one")
            Article.objects.create(title="again")

        def hear(**_: Any) -> None:
            told.append("other")

        heard(signals.tag_invalidated, save)
        heard(signals.tag_invalidated, hear)
        Article.objects.create(title="a")
        assert sorted(told) == ["one", "other", "other"]

    def test_an_async_receiver_is_told_too(self, heard: Any) -> None:
        told: list[Any] = []

        async def hear(**given: Any) -> None:
            told.append((given["cause"], asyncio.get_running_loop()))

        async def main() -> Any:
            await Article.objects.acreate(title="a")
            return asyncio.get_running_loop()

        heard(signals.tag_invalidated, hear)
        Article.objects.create(title="b")
        loop = async_to_sync(main)()
        assert [cause for cause, _ in told] == ["save library.article"] * 2
        assert told[1][1] is loop

    def test_a_row_says_what_it_was(self) -> None:
        org = Org.objects.create(name="a")
        ticket = Ticket.objects.create(org=org)
        row = Invalidation.objects.get(tag=f"library.ticket:{ticket.pk}")
        assert (row.tenant, row.everybody, row.cause) == (str(org.pk), False, "save library.ticket")
        (tag,) = tags(row.tag, tenant=org.pk)
        assert row.digest == tag.digest
        Article.objects.create(title="a")
        assert Invalidation.objects.get(tag="library.article:*").everybody


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("lock", ["outbox._busy_lock", "stamps._lock"])
def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held(lock: str, store: Recorder) -> None:
    with operator.attrgetter(lock)(freshness):  # the child's one thread is no owner of it
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            store.down = True
            with contextlib.suppress(Exception):
                stamps.apply({ALL: ""}, using="default", cause="a child")
                os._exit(1)
            with contextlib.suppress(Exception):
                outbox._busy.add(connections["default"])
                outbox.uncommitted([ALL])
                os._exit(0)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class TestWithDataOfItsClass(CacheTestMixin, TestCase):
    cache_in_memory = True
    article: Article

    @classmethod
    def setUpTestData(cls) -> None:
        cls.article = Article.objects.create(title="of the class")

    def setUp(self) -> None:
        freshness.start(apps._store)
        super().setUp()

    def asked(self) -> list[str]:
        article = Article.objects.get(pk=self.article.pk)
        with aicache.scope(tenant="acme", sources=[article]) as calls:
            for _ in range(2):
                aicache.remember({"about": article.pk}, lambda: article.title)
        return [call.status for call in calls]

    def test_what_it_has_saved_counts_as_committed(self) -> None:
        assert self.asked() == ["miss", "hit"]
        assert not Invalidation.objects.filter(applied_at=None).exists()
        with transaction.atomic():
            self.article.save()
            assert self.asked() == ["bypass", "bypass"]
        assert self.asked() == ["miss", "hit"]

    # The next test of the class begins as the first did.
    test_for_each_of_its_tests = test_what_it_has_saved_counts_as_committed


class TestInATestCase(TestCase):
    """As the site's own tests do it."""

    def test_without_more_it_waits_for_a_commit_that_never_comes(self) -> None:
        Article.objects.create(title="a")
        assert held() == ALL

    def test_and_the_next_begins_without_it(self) -> None:
        assert held() is None

    def test_captured_hooks_are_at_their_places(self) -> None:
        seen: list[str] = []
        Article.objects.create(title="a")
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: seen.append("first"))
            Comment.objects.create(article=Article.objects.get(), text="a")
            transaction.on_commit(lambda: seen.append("last"))
        assert seen == ["first", "last"]
        assert len(callbacks) == 3
        assert held(COMMENTS) is None

    def test_captured_hooks_are_those_of_savepoints_that_were_kept(self) -> None:
        article = Article.objects.create(title="a")
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            with transaction.atomic():
                Comment.objects.create(article=article, text="a")
            with contextlib.suppress(LookupError), transaction.atomic():
                article.save()
                raise LookupError
        kept = Invalidation.objects.exclude(applied_at=None).values_list("cause", flat=True)
        assert set(kept) == {"save library.comment"}

    def test_after_captured_hooks_the_next_save_is_written_again(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            article = Article.objects.create(title="a")
        before = Invalidation.objects.count()
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            article.save()
            assert held() == ALL
        assert held() is None
        assert len(callbacks) == 1
        assert Invalidation.objects.count() == before + 2
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_committing_runs_them_after_the_row_is_written(self) -> None:
        rows: list[int] = []

        def hear(**given: Any) -> None:
            rows.append(Article.objects.count())

        signals.tag_invalidated.connect(hear)
        self.addCleanup(signals.tag_invalidated.disconnect, hear)
        with committing():
            Article.objects.create(title="a")
            assert held() is None
            assert rows == [1]
            with transaction.atomic():
                Article.objects.create(title="b")
                assert held() == ALL
            assert held() is None
            with contextlib.suppress(LookupError), transaction.atomic():
                Article.objects.create(title="c")
                raise LookupError
            assert held() is None
        assert rows == [1, 2]

    def test_a_save_costs_no_savepoint(self) -> None:
        article = Article.objects.create(title="a")
        with self.assertNumQueries(2):
            article.save()

    def test_an_error_when_marking_leaves_the_test_its_transaction(self) -> None:
        with committing(), patch("aicache.freshness.outbox.timezone.now", return_value="no date"):
            with pytest.raises(Exception, match="no date"):
                Article.objects.create(title="a")
        assert connection.in_atomic_block
