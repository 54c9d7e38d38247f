from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction

import aicache
from aicache import forks
from aicache.freshness import databases, drain, recovery
from aicache.freshness.generations import generations
from aicache.freshness.outbox import uncommitted
from aicache.freshness.recovery import recover
from aicache.invalidation import invalidate
from aicache.models import Invalidation
from tests.freshness.far import FAR, far
from tests.freshness.library.models import Article, Comment, Topic
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

(ALL,) = tags("library.article:*")
HOW = ["refuses", "hangs"]


class ArticlesElsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is Article else None


class NoTableElsewhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == "other" and app_label == "aicache" else None


def test_a_row_and_its_invalidation_are_in_one_database(store: Recorder) -> None:
    article = Article(title="a")
    article.save(using="other")
    assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")
    assert (Invalidation.objects.count(), Invalidation.objects.using("other").count()) == (0, 2)
    assert databases.aliases() == ["default", "other"]


def test_a_router_is_heard(store: Recorder, settings: Any) -> None:
    settings.DATABASE_ROUTERS = [ArticlesElsewhere()]
    assert databases.aliases() == ["default", "other"]
    article = Article.objects.create(title="a")
    assert Invalidation.objects.using("other").count() == 2
    assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
    invalidate(article)
    invalidate(Article.objects.using("other"))
    assert Invalidation.objects.using("other").count() == 6
    assert not Invalidation.objects.exists()
    article.delete()
    assert Invalidation.objects.using("other").count() == 8
    assert not Invalidation.objects.exists()


def test_links_and_cascades_are_where_their_rows_are() -> None:
    article = Article(title="a")
    article.save(using="other")
    topic = Topic.objects.using("other").create(name="a")
    Comment.objects.using("other").create(article=article, text="a")
    before = Invalidation.objects.using("other").count()
    article.topics.add(topic)
    article.topics.clear()
    article.delete()
    assert Invalidation.objects.using("other").count() > before
    assert not Invalidation.objects.exists()


def test_each_transaction_is_applied_by_itself(store: Recorder) -> None:
    with transaction.atomic("other"):
        Article(title="a").save(using="other")
        assert uncommitted([ALL]) == ALL
        Article(title="b").save(using="default")
        assert len(store.stamped) == 1
        assert uncommitted([ALL]) == ALL
    assert len(store.stamped) == 2
    assert uncommitted([ALL]) is None


def test_where_there_may_be_no_table_it_is_kept_in_the_sites_database_at_the_commit(
    store: Recorder, settings: Any
) -> None:
    settings.DATABASE_ROUTERS = [NoTableElsewhere()]
    assert databases.aliases() == ["default"]
    with transaction.atomic("other"):
        article = Article(title="a")
        article.save(using="other")
        article.save(using="other")
        assert uncommitted([ALL]) == ALL
        assert not Invalidation.objects.exists()
    assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
    assert Invalidation.objects.exclude(applied_at=None).count() == 2
    store.down = True
    article.delete()
    assert drain.pending() == 2


def test_where_even_that_fails_it_is_applied(
    store: Recorder, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> Any:
        raise DatabaseError("no space")

    settings.DATABASE_ROUTERS = [NoTableElsewhere()]
    monkeypatch.setattr("aicache.freshness.outbox._insert", fail)
    Article(title="a").save(using="other")
    assert store.tags >= {ALL}
    assert "could not be kept in the database 'default'" in caplog.text


def test_and_in_the_sites_own_open_transaction_if_there_is_one(store: Recorder, settings: Any) -> None:
    settings.DATABASE_ROUTERS = [NoTableElsewhere()]
    with transaction.atomic():
        Article(title="a").save(using="other")
        assert store.tags >= {ALL}
        transaction.set_rollback(True)
    assert not connections["default"].in_atomic_block


class TestWhichTheyAre:
    def test_is_the_same_whether_this_process_wrote_to_them_or_not(self) -> None:
        assert databases.aliases() == ["default", "other"]

    def test_a_replica_has_what_its_primary_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connections["other"].settings_dict, "TEST", {"MIRROR": "default"})
        assert databases.aliases() == ["default"]

    def test_one_without_the_table_is_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(connections["other"].introspection, "table_names", lambda cursor: [])
            assert databases.everywhere() == ["default"]
        assert databases.everywhere() == databases.aliases() == ["default"]  # for a moment
        monkeypatch.setitem(databases._migrated, "other", 0.0)
        assert databases.everywhere() == databases.aliases() == ["default", "other"]

    @pytest.mark.parametrize("how", HOW)
    def test_one_that_does_not_answer_is_passed_over_in_lists_and_named(self, how: str, tmp_path: Path) -> None:
        with far(how, tmp_path) as alias:
            assert databases.aliases() == ["default", "other"]
            assert databases.silent() == [alias]
            assert alias in databases.candidates()

    def test_and_as_soon_as_it_answers_it_is_there(self, tmp_path: Path) -> None:
        with far("refuses", tmp_path) as alias:
            assert alias not in databases.aliases()
            (tmp_path / "nowhere").mkdir()
            assert alias not in databases.aliases()  # for a moment: a page asks several times
            databases._silent[alias] = 0.0
            assert (databases.aliases(), databases.silent()) == (["default", "other"], [])  # it has no table

    def test_the_sites_own_is_not_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(databases, "is_migrated", out_of_reach)
        with pytest.raises(OperationalError):
            databases.aliases()

    def test_for_whoever_must_know_all_one_that_does_not_answer_is_an_error(
        self, tmp_path: Path, settings: Any, aicache_memory: Any
    ) -> None:
        settings.AICACHE = {"POLICIES": {"strict": {"consistency": "strict"}}}
        with far("refuses", tmp_path):
            with pytest.raises(OperationalError):
                generations([ALL])
            with aicache.scope(tenant="acme", tags=["prices"], policy="strict") as calls:
                aicache.remember({"question": 1}, lambda: 1)
        assert (calls.last.status, calls.last.reason) == ("degraded", "database")

    def test_a_router_may_keep_us_out_of_it(self, tmp_path: Path, settings: Any) -> None:
        with far("refuses", tmp_path) as alias:
            settings.DATABASE_ROUTERS = [NoTableFarAway()]
            assert alias not in databases.candidates()
            assert generations([ALL]) == (0,)


class NoTableFarAway:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == FAR and app_label == "aicache" else None


def out_of_reach(using: str) -> bool:
    raise OperationalError("no route to host")


def out_of_reach_is(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = databases.may_hold
    monkeypatch.setattr(databases, "may_hold", lambda using: (out_of_reach if using == alias else before)(using))


class TestDrain:
    @pytest.mark.parametrize("how", HOW)
    def test_one_of_no_interest_is_passed_over_with_one_warning(
        self, store: Recorder, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.down = True
        for alias in ("default", "other"):
            invalidate("a", tenant="t", using=alias)
        store.down = False
        with far(how, tmp_path) as alias:
            assert drain.drain() == 2
            assert drain.drain() == 0
        assert store.taken() == tags("a", tenant="t")
        assert drain.pending() == 0
        assert caplog.text.count(f"what is pending in the database '{alias}' is not known") == 1

    def test_what_can_be_drained_is_and_then_the_trouble_is_raised(
        self, store: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.down = True
        for alias in ("default", "other"):
            invalidate("a", tenant="t", using=alias)
        store.down = False
        out_of_reach_is("default", monkeypatch)
        with pytest.raises(OperationalError, match="no route"):
            drain.drain()
        assert (drain.pending("default"), drain.pending("other")) == (1, 0)

    def test_what_is_old_is_deleted_wherever_it_can_be(self, store: Recorder, tmp_path: Path) -> None:
        for alias in ("default", "other"):
            invalidate("a", tenant="t", using=alias)
        with far("refuses", tmp_path):
            drain.compact(timedelta(0))
        assert not Invalidation.objects.exists()
        assert not Invalidation.objects.using("other").exists()

    def test_one_without_a_table_has_nothing_pending(self, store: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(databases, "is_migrated", lambda using: False)
        assert (drain.drain(), drain.drain("other"), drain.compact(timedelta(0))) == (0, 0, 0)


class TestRecovery:
    def test_applies_what_is_pending_everywhere(self, store: Recorder) -> None:
        store.down = True
        for alias in ("default", "other"):
            invalidate("a", tenant="t", using=alias)
        store.down = False
        in_its_thread(recover)
        assert drain.pending() == 0
        assert store.taken() == tags("a", tenant="t")

    def test_commits_whatever_the_site_says_and_holds_off_forks(
        self, store: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.down = True
        invalidate("a", tenant="t", using="default")
        store.down = False
        seen: list[int] = []
        monkeypatch.setattr(recovery, "drain", lambda: (seen.append(forks._statements), drain.drain()))
        monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
        in_its_thread(recover)
        assert drain.pending("default") == 0
        assert seen == [1]

    @pytest.mark.parametrize(("alias", "known"), [("default", False), ("other", True)])
    def test_a_database_that_nobody_is_known_to_write_to_keeps_nobody(
        self, monkeypatch: pytest.MonkeyPatch, alias: str, known: bool
    ) -> None:
        databases.aliases()
        monkeypatch.setattr(databases, "_written", set())
        out_of_reach_is(alias, monkeypatch)
        if known:
            in_its_thread(recover)
        else:
            with pytest.raises(OperationalError):
                in_its_thread(recover)

    def test_one_that_this_process_wrote_to_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Article(title="a").save(using="other")
        out_of_reach_is("other", monkeypatch)
        with pytest.raises(OperationalError):
            in_its_thread(recover)

    def test_a_row_that_cannot_be_marked_is_applied_all_the_same(
        self, store: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def read_only(ids: Any, using: str) -> None:
            raise DatabaseError("cannot execute UPDATE in a read-only transaction")

        store.down = True
        invalidate("a", tenant="t")
        store.down = False
        monkeypatch.setattr(drain.outbox, "mark", read_only)
        assert drain.drain() == 1
        assert store.taken() == tags("a", tenant="t")
        assert "not marked so" in caplog.text


def in_its_thread(function: Any) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(function).result()
