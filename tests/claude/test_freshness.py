"""An answer dies with the row that it was made from: for every kind of call, whoever waits and however slow it is."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, transaction
from django.test import override_settings
from django.utils import timezone

import aicache
from aicache.core.policy import Policy
from aicache.core.tags import EVERYBODY, Tag
from aicache.errors import TenantMismatch
from aicache.models import Invalidation
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import in_threads, waiting
from tests.freshness.library.models import Article, Comment, Org, Ticket

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def article() -> Article:
    return Article.objects.create(title="Refunds", body="Within 30 days.")


def ask(asker: Asker, *, tenant: Any = "acme", **scope: Any) -> aicache.CallInfo:
    with aicache.scope(tenant=tenant, **scope) as calls:
        asker.create()
    assert calls.last is not None
    return calls.last


def statuses(asker: Asker, **scope: Any) -> list[str]:
    return [ask(asker, **scope).status for _ in range(2)]


def test_an_answer_dies_with_its_row(asker: Asker, claude: ClaudeServer, article: Article) -> None:
    assert statuses(asker, sources=[article]) == ["miss", "hit"]

    article.body = "Within 14 days."
    article.save()

    again = ask(asker, sources=[article])
    assert (again.status, again.reason) == ("miss", f"source_changed:library.article:{article.pk}")
    assert ask(asker, sources=[article]).status == "hit"


def test_it_dies_for_those_too_who_have_the_row_as_it_was(asker: Asker, article: Article) -> None:
    before = Article.objects.get()
    ask(asker, sources=[before])

    article.save()

    again = ask(asker, sources=[before])
    assert (again.status, again.reason) == ("miss", f"invalidated:library.article:{article.pk}")


def test_it_dies_with_a_row_that_is_deleted(asker: Asker, article: Article) -> None:
    before = Article.objects.get()
    ask(asker, sources=[before])

    article.delete()

    assert ask(asker, sources=[before]).status == "miss"


def test_the_answers_of_other_rows_live_on(asker: Asker, article: Article) -> None:
    other = Article.objects.create(title="Delivery")
    ask(asker, sources=[other])

    article.save()

    assert ask(asker, sources=[other]).status == "hit"


def test_an_answer_tagged_with_a_whole_model_dies_with_each_row(asker: Asker) -> None:
    tags = ["library.article"]
    assert statuses(asker, tags=tags) == ["miss", "hit"]

    created = Article.objects.create(title="New")

    again = ask(asker, tags=tags)
    assert (again.status, again.reason) == ("miss", "invalidated:library.article")
    created.delete()
    assert statuses(asker, tags=tags) == ["miss", "hit"]


def test_a_model_can_be_purged_with_all_that_was_made_from_its_rows(asker: Asker, article: Article) -> None:
    ask(asker, sources=[article])

    aicache.invalidate("library.article", tenant="acme")

    assert ask(asker, sources=[article]).reason == "invalidated:library.article"


def test_what_update_changed_behind_the_signals_is_another_version(asker: Asker, article: Article) -> None:
    ask(asker, sources=[article])
    Article.objects.update(body="Never.")

    again = ask(asker, sources=[Article.objects.get()])

    assert (again.status, again.reason) == ("miss", f"source_changed:library.article:{article.pk}")


def test_a_version_is_read_at_the_moment_of_the_call(asker: Asker, article: Article) -> None:
    with aicache.scope(tenant="acme", sources=[article]) as calls:
        asker.create()
        Article.objects.update(body="Never.")
        article.refresh_from_db()
        asker.create()

    assert [call.status for call in calls] == ["miss", "miss"]


def test_its_tags_are_told(asker: Asker, article: Article) -> None:
    info = ask(asker, sources=[article], tags=["prices"])

    assert info.tags == {"prices", "library.article", f"library.article:{article.pk}"}


class TestInvalidate:
    def test_a_tag_of_ones_own(self, asker: Asker) -> None:
        ask(asker, tags=["prices"])
        ask(asker, tags=["prices"], tenant="globex")

        aicache.invalidate("prices", tenant="acme")

        assert ask(asker, tags=["prices"]).reason == "invalidated:prices"
        assert ask(asker, tags=["prices"], tenant="globex").status == "hit"

    def test_a_tag_of_everybodys(self, asker: Asker) -> None:
        for tenant in ("acme", "globex", aicache.GLOBAL):
            ask(asker, tags=["prices"], tenant=tenant)

        aicache.invalidate("prices", tenant=aicache.GLOBAL)

        for tenant in ("acme", "globex", aicache.GLOBAL):
            assert ask(asker, tags=["prices"], tenant=tenant).reason == "invalidated:prices"

    def test_an_answer_of_everybodys_outlives_a_tenants_tag(self, asker: Asker) -> None:
        ask(asker, tags=["prices"], tenant=aicache.GLOBAL)

        aicache.invalidate("prices", tenant="acme")

        assert ask(asker, tags=["prices"], tenant=aicache.GLOBAL).status == "hit"

    def test_a_site_with_one_tenant(self, asker: Asker, settings: Any) -> None:
        with override_settings(AICACHE={**settings.AICACHE, "SINGLE_TENANT": True}):
            with aicache.scope(tags=["prices"]) as calls:
                asker.create()
                asker.create()
                aicache.invalidate("prices")
                asker.create()
        assert [call.status for call in calls] == ["miss", "hit", "miss"]


class TestTenants:
    def test_another_tenants_row_is_refused(self, asker: Asker) -> None:
        ticket = Ticket.objects.create(org=Org.objects.create(name="globex"))

        for tenant in ("acme", aicache.GLOBAL):
            with pytest.raises(TenantMismatch):
                aicache.scope(tenant=tenant, sources=[ticket]).__enter__()
        with aicache.scope(sources=[ticket]), pytest.raises(TenantMismatch):
            aicache.scope(tenant="acme").__enter__()

    def test_it_is_refused_at_the_call_where_the_site_says_whose_it_is(self, asker: Asker, settings: Any) -> None:
        ticket = Ticket.objects.create(org=Org.objects.create(name="globex"))
        chosen = {**settings.AICACHE, "TENANT": lambda: "acme"}
        with override_settings(AICACHE=chosen), aicache.scope(sources=[ticket]):
            with pytest.raises(TenantMismatch):
                asker.create()

    def test_a_row_that_moves_takes_its_answers_from_both(self, asker: Asker) -> None:
        acme, globex = (Org.objects.create(name=name) for name in ("acme", "globex"))
        ticket = Ticket.objects.create(org=acme)
        for org in (acme, globex):
            ask(asker, tags=["library.ticket"], tenant=org.pk)

        ticket.org = globex
        ticket.save()

        for org in (acme, globex):
            assert ask(asker, tags=["library.ticket"], tenant=org.pk).status == "miss"


class TestTransactions:
    def test_who_has_not_committed_neither_reads_nor_stores(self, asker: Asker, article: Article) -> None:
        before = Article.objects.get()
        ask(asker, sources=[before])

        with transaction.atomic():
            article.save()
            inside = [ask(asker, sources=[before]) for _ in range(2)]
        assert [(info.status, info.reason) for info in inside] == [
            ("bypass", f"uncommitted:library.article:{article.pk}")
        ] * 2
        assert statuses(asker, sources=[before]) == ["miss", "hit"]

    def test_what_is_rolled_back_has_not_happened(self, asker: Asker, article: Article) -> None:
        before = Article.objects.get()
        ask(asker, sources=[before])

        with transaction.atomic():
            article.save()
            transaction.set_rollback(True)

        assert ask(asker, sources=[before]).status == "hit"

    def test_other_rows_are_read_as_ever(self, asker: Asker, article: Article) -> None:
        other = Article.objects.create(title="Delivery")
        ask(asker, sources=[other])
        with transaction.atomic():
            article.save()
            assert ask(asker, sources=[other]).status == "hit"

    def test_a_cascade_takes_the_answers_along(self, asker: Asker, article: Article) -> None:
        comment = Comment.objects.create(article=article)
        before = Comment.objects.get()
        ask(asker, sources=[before])

        article.delete()

        assert comment.pk is not None
        assert ask(asker, sources=[before]).status == "miss"


class TestASlowCall:
    """``claude.answer`` runs while the call is under way."""

    def test_that_began_before_is_not_kept(self, asker: Asker, claude: ClaudeServer, article: Article) -> None:
        before = Article.objects.get()
        saved = threading.Event()

        def answer(_: Any) -> Reply:
            assert saved.wait(10)
            return Reply.text("old")

        claude.answer = answer
        asked = in_background(lambda: ask(asker, sources=[before]))
        wait_until(lambda: claude.in_flight == 1)
        article.save()
        saved.set()
        info = asked()

        assert (info.status, info.reason, info.stored) == ("miss", "superseded", False)
        assert ask(asker, sources=[before]).status == "miss"

    def test_is_neither_awaited_nor_shared_by_who_begins_after(
        self, asker: Asker, claude: ClaudeServer, article: Article
    ) -> None:
        before = Article.objects.get()
        go_on = threading.Event()
        replies = iter(["old", "new"])

        def answer(_: Any) -> Reply:
            text = next(replies)
            if text == "old":
                assert go_on.wait(10)
            return Reply.text(text)

        claude.answer = answer
        texts: dict[str, str] = {}

        def asked(name: str) -> str:
            with aicache.scope(tenant="acme", sources=[before]) as calls:
                texts[name] = asker.create().content[0].text
            assert calls.last is not None
            return calls.last.status

        leader = in_background(lambda: asked("leader"))
        wait_until(lambda: claude.in_flight == 1)
        article.save()

        assert asked("later") == "miss"
        go_on.set()
        assert leader() == "miss"
        assert texts["later"] == "new"
        assert asked("last") == "hit"
        assert texts["last"] == "new"

    def test_is_shared_by_those_who_began_before(self, asker: Asker, claude: ClaudeServer, article: Article) -> None:
        before = Article.objects.get()
        saved = threading.Event()

        def answer(_: Any) -> Reply:
            assert saved.wait(10)
            return Reply.text("old")

        claude.answer = answer
        asked = in_background(lambda: in_threads(5, lambda _: ask(asker, sources=[before])))
        wait_until(lambda: claude.in_flight == 1)
        wait_until(lambda: waiting() == 4)
        article.save()
        saved.set()

        assert Counter(info.status for info in asked()) == {"miss": 1, "coalesced": 4}
        assert claude.count == 1


BRIEF = {"ttl": 0.05, "stale_while_revalidate": 1000.0}


class TestStale:
    def test_an_invalidated_answer_is_never_served_stale(self, asker: Asker, article: Article, settings: Any) -> None:
        before = Article.objects.get()
        with override_settings(AICACHE={**settings.AICACHE, "POLICIES": {"default": BRIEF}}):
            first = ask(asker, sources=[before])
            threading.Event().wait(0.1)
            article.save()
            again = ask(asker, sources=[before])
        assert first.status == "miss"
        assert (again.status, again.reason) == ("miss", f"invalidated:library.article:{article.pk}")


class TestStrict:
    @pytest.fixture(autouse=True)
    def _strict(self, settings: Any, asker: Asker) -> Any:
        with override_settings(AICACHE={**settings.AICACHE, "POLICIES": {"exact": {"consistency": "strict"}}}):
            yield

    def test_it_serves_what_stands(self, asker: Asker, article: Article) -> None:
        assert statuses(asker, sources=[article], policy="exact") == ["miss", "hit"]

    def test_what_was_committed_counts_before_any_stamp(self, asker: Asker, article: Article) -> None:

        ask(asker, sources=[article], policy="exact")
        name = f"library.article:{article.pk}"
        Invalidation.objects.create(
            digest=Tag(name, EVERYBODY).digest, tag=name, everybody=True, made_at=timezone.now()
        )

        assert ask(asker, sources=[article]).status == "hit"
        again = ask(asker, sources=[article], policy="exact")
        assert (again.status, again.reason) == ("miss", f"invalidated:{name}")
        assert ask(asker, sources=[article], policy="exact").status == "hit"

    def test_an_answer_that_nobody_counted_for_is_not_taken(
        self, asker: Asker, article: Article, settings: Any
    ) -> None:
        with override_settings(AICACHE={**settings.AICACHE, "DURABLE": False}):  # else all answers are counted for
            ask(asker, sources=[article])

            assert ask(asker, sources=[article], policy="exact").reason == "policy"
            assert ask(asker, sources=[article]).status == "hit"

    def test_a_database_that_is_away_costs_the_cache_and_one_line(
        self, asker: Asker, article: Article, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def out_of_reach(tags: Any) -> Any:
            raise OperationalError("no route to host")

        with monkeypatch.context() as patched:
            patched.setattr("aicache.durable.work.generations", out_of_reach)
            found = [ask(asker, sources=[article], policy="exact") for _ in range(3)]
            gc.collect()
        assert {(info.status, info.reason) for info in found} == {("degraded", "database")}
        assert [(record.levelname, record.name) for record in caplog.records] == [("WARNING", "aicache")]
        assert statuses(asker, sources=[article], policy="exact") == ["miss", "hit"]
        assert "the database is back: strict" in caplog.text


def test_a_decision_of_policy_is_checked() -> None:
    with pytest.raises(ValueError, match="consistency is 'weak'; accepted"):
        Policy("x", consistency="weak")  # type: ignore[arg-type]


def test_remembered_values_die_too(aicache_isolated: None, article: Article) -> None:
    made: list[str] = []

    def call() -> str:
        made.append("x")
        return "value"

    def remembered() -> None:
        with aicache.scope(tenant="acme", sources=[Article.objects.get()]):
            aicache.remember({"embed": "text"}, call)

    remembered()
    remembered()
    article.save()
    remembered()

    assert len(made) == 2


def test_a_call_from_async_code_inside_a_transaction_sees_what_is_uncommitted(
    aicache_isolated: None, claude: ClaudeServer, article: Article
) -> None:
    before = Article.objects.get()
    asker = Asker("async", claude.url)

    async def asking() -> aicache.CallInfo:
        with aicache.scope(tenant="acme", sources=[before]) as calls:
            async with asker.client() as client:
                await client.messages.create(**QUESTION)
        assert calls.last is not None
        return calls.last

    asyncio.run(asking())
    with transaction.atomic():
        article.save()
        assert async_to_sync(asking)().reason == f"uncommitted:library.article:{article.pk}"


def in_background(act: Any) -> Any:
    """Begins it in a thread; call what is returned for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()

    def result() -> Any:
        thread.join(20)
        return results[0]

    return result


def wait_until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to that")
