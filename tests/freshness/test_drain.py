from __future__ import annotations

import datetime
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aicache.core.operations import Unavailable
from aicache.freshness import databases, drain
from aicache.freshness.generations import generations
from aicache.invalidation import invalidate
from aicache.models import Invalidation, InvalidationTag
from tests.freshness.far import connecting
from tests.freshness.library.models import Article
from tests.freshness.recorder import Recorder, tags
from tests.freshness.tables import database, in_a_thread

BOTH = ["default", "other"]
pytestmark = pytest.mark.django_db(transaction=True, databases=BOTH)

(ALL,) = tags("library.article:*")
(NEVER,) = tags("never")


@pytest.fixture
def missed(store: Recorder) -> list[Article]:
    store.down = True
    articles = [Article.objects.create(title="a") for _ in range(3)]
    store.down = False
    return articles


class TestDrain:
    def test_applies_what_is_pending_once(self, store: Recorder, missed: list[Article]) -> None:
        assert drain.pending() == 6
        assert drain.drain() == 6
        assert store.taken() == tags("library.article:*", *(f"library.article:{row.pk}" for row in missed))
        assert (drain.pending(), drain.drain()) == (0, 0)

    def test_in_batches(self, store: Recorder, missed: list[Article], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drain, "BATCH", 4)
        assert drain.drain() == 6
        assert len(store.stamped) == 2

    def test_while_the_store_is_away_it_says_so_and_nothing_is_lost(self, store: Recorder, missed: Any) -> None:
        store.down = True
        with pytest.raises(Unavailable):
            drain.drain()
        assert drain.pending() == 6

    def test_in_each_database_or_in_one(self, store: Recorder) -> None:
        store.down = True
        invalidate("a", tenant="t", using="default")
        invalidate("b", tenant="t", using="other")
        store.down = False
        assert (drain.pending(), drain.pending("other")) == (2, 1)
        assert drain.drain("other") == 1
        assert store.taken() == tags("b", tenant="t")
        assert drain.drain() == 1
        assert store.taken() == tags("a", tenant="t")

    def test_a_tag_whose_tenant_was_cut_is_the_same_tag(self, store: Recorder) -> None:
        store.down = True
        invalidate("a", "b\0c", tenant="t" * 300)
        store.down = False
        drain.drain()
        digests = {tag.digest for tag in tags("a", "b\0c", tenant="t" * 300)}
        assert {tag.digest for tag in store.tags} == digests

    def test_the_oldest(self, missed: Any) -> None:
        assert drain.oldest() == Invalidation.objects.order_by("id")[0].made_at
        drain.drain()
        assert drain.oldest() is None


class TestGenerations:
    def test_grow_with_each_transaction(self) -> None:
        assert generations([ALL, NEVER]) == (0, 0)
        article = Article.objects.create(title="a")
        assert generations([NEVER, ALL]) == (0, 1)
        with transaction.atomic():
            article.save()
            article.save()
        assert generations([ALL, NEVER, ALL]) == (2, 0, 2)

    def test_are_one_query_for_each_database(self) -> None:
        invalidate("a", tenant="t", using="default")
        invalidate("a", tenant="t", using="other")
        (tag,) = tags("a", tenant="t")
        generations([tag])  # the first time it is found out that they have the table
        with CaptureQueriesContext(connection) as captured, CaptureQueriesContext(connections["other"]) as other:
            assert generations([tag]) == (2,)
        assert (len(captured), len(other)) == (1, 1)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {captured[0]['sql']}")
            plan = [step[-1] for step in cursor.fetchall()]
        assert sum("USING COVERING INDEX aicache_invalidation_tag" in step for step in plan) == 1, plan
        assert not any(step.startswith("SCAN aicache") for step in plan), plan

    def test_may_be_those_of_some_databases(self) -> None:
        invalidate("a", tenant="t", using="default")
        invalidate("a", tenant="t", using="other")
        (tag,) = tags("a", tenant="t")
        assert generations([tag, NEVER], among=["other"]) == (1, 0)
        assert generations([tag], among=[]) == (0,)

    def test_of_nothing_is_nothing(self) -> None:
        assert generations([]) == ()

    def test_do_not_change_when_rows_are_compacted(self) -> None:
        articles = [Article.objects.create(title="a") for _ in range(3)]
        wanted = [ALL, *tags(f"library.article:{articles[0].pk}"), NEVER]
        before = generations(wanted)
        assert drain.compact(timedelta(days=1)) == 0
        Invalidation.objects.update(applied_at=timezone.now() - timedelta(days=2))
        assert drain.compact(timedelta(days=1)) == 6
        assert not Invalidation.objects.exists()
        assert generations(wanted) == before
        articles[0].save()
        assert generations(wanted) == (before[0] + 1, before[1] + 1, 0)
        Invalidation.objects.update(applied_at=timezone.now() - timedelta(days=2))
        drain.compact(timedelta(0))
        assert generations(wanted) == (before[0] + 1, before[1] + 1, 0)
        assert InvalidationTag.objects.get(digest=ALL.digest).tag == "library.article:*"

    def test_of_a_tag_with_many_the_older_ones_go_at_once(
        self, missed: Any, monkeypatch: pytest.MonkeyPatch, store: Recorder
    ) -> None:
        monkeypatch.setattr(drain, "NEWEST", 4)
        monkeypatch.setattr(drain, "BATCH", 2)
        for _ in range(10):
            invalidate("hot", tenant="t")
        for _ in range(4):
            invalidate("warm", tenant="t")
        wanted = [*tags("hot", "warm", tenant="t"), ALL]
        before = generations(wanted)
        newest = list(Invalidation.objects.filter(tag="hot").order_by("-id").values_list("id", flat=True)[:4])

        assert drain.compact(timedelta(days=1)) == 6

        assert list(Invalidation.objects.filter(tag="hot").order_by("-id").values_list("id", flat=True)) == newest
        assert Invalidation.objects.filter(tag="warm").count() == 4
        assert generations(wanted) == before
        assert drain.compact(timedelta(days=1)) == 0
        assert drain.pending() == 6

    def test_of_those_what_is_pending_stays(self, store: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drain, "NEWEST", 1)
        (tag,) = tags("hot", tenant="t")
        for down in (False, True, False, False):
            store.down = down
            invalidate("hot", tenant="t")

        assert drain.compact(timedelta(days=1)) == 2

        assert [row.applied_at is None for row in Invalidation.objects.order_by("id")] == [True, False]
        assert generations([tag]) == (4,)

    def test_while_rows_are_compacted_no_generation_changes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Recorder
    ) -> None:
        """Between any two statements of a compaction another connection counts the same."""
        monkeypatch.setattr(drain, "NEWEST", 1)
        monkeypatch.setattr(drain, "BATCH", 2)
        (tag,) = tags("hot", tenant="t")
        counted: list[int] = []

        def count() -> None:
            counted.extend(generations([tag], among=["file"]))

        def watch(execute: Any, *statement: Any) -> Any:
            in_a_thread("file", count)()
            return execute(*statement)

        options = {"timeout": 5, "init_command": "PRAGMA journal_mode=WAL"}
        with connecting(), database("file", NAME=str(tmp_path / "db.sqlite3"), OPTIONS=options) as file:
            for _ in range(5):
                invalidate("hot", tenant="t", using="file")
            with file.execute_wrapper(watch):
                assert drain.compact(timedelta(days=1), "file") == 4
        databases._migrated.pop("file")
        assert set(counted) == {5}
        assert len(counted) > 10

    def test_what_is_pending_is_never_compacted(self, missed: Any) -> None:
        Invalidation.objects.update(made_at=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        assert drain.compact(timedelta(0)) == 0
