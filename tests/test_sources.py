"""What a call is made from is read as it is made: whole, apart from the caller's connection, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

import aicache
from aicache.core.operations import Unavailable
from aicache.errors import ArgumentError, TenantMismatch
from aicache.frame import current
from aicache.freshness import loads
from aicache.freshness.loads import Loads
from aicache.freshness.registry import source_of
from aicache.testing import ClaudeServer
from aicache.testing.isolation import memory
from aicache.testing.memory import MemoryStore
from tests.claude.conftest import QUESTION
from tests.freshness.library.models import (
    Article,
    ByUuid,
    Draft,
    Loose,
    Memo,
    Note,
    Org,
    Reader,
    Restaurant,
    Team,
    Ticket,
)
from tests.freshness.registering import registering

BOTH = ["default", "other"]
pytestmark = [pytest.mark.django_db(transaction=True, databases=BOTH), pytest.mark.usefixtures("aicache_memory")]


@pytest.fixture
def registered() -> Iterator[Callable[..., Any]]:
    with registering() as register:
        yield register


def call() -> aicache.CallInfo:
    with aicache.scope() as calls:
        aicache.remember({"question": 1}, lambda: "an answer")
    assert calls.last is not None
    return calls.last


def ask(*sources: Any, tenant: Any = "acme", **scope: Any) -> aicache.CallInfo:
    with aicache.scope(tenant=tenant, sources=sources, **scope):
        return call()


def told(info: aicache.CallInfo) -> tuple[str, str]:
    return info.status, info.reason


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OperationalError("terminating connection due to administrator command")

    monkeypatch.setattr(loads, "_row", fail)


class TestAVersionThatIsNotInMemory:
    """What would be loaded now may be a newer row's than the one in hand."""

    def old_and_new(self) -> tuple[Any, Any]:
        org = Org.objects.create(name="acme")
        Draft.objects.create(org=org, text="old")
        (old,) = Draft.objects.defer("text").select_related("org")
        Draft.objects.update(text="new", reader=Reader.objects.create(name="another"))
        (new,) = Draft.objects.defer("text").select_related("org")
        return old, new

    def test_is_no_version_of_the_row_in_hand(self) -> None:
        old, new = self.old_and_new()
        whole = Draft.objects.get()
        assert [ask(row, tenant=old.org_id).status for row in (old, new, whole)] == ["miss"] * 3
        assert [ask(row, tenant=old.org_id).status for row in (old, new, whole)] == ["hit"] * 3

    def test_nor_in_an_event_loop(self) -> None:
        old, new = self.old_and_new()

        async def versions() -> list[str]:
            return [source_of(row).version() for row in (old, new)]

        assert len(set(asyncio.run(versions()))) == 2


class TestTwoDatabases:
    @pytest.fixture
    def rows(self) -> list[Any]:
        rows = [Article.objects.using(alias).create(pk=1, title=alias) for alias in BOTH]
        return [Article.objects.using(row._state.db).get() for row in rows]

    @pytest.mark.parametrize("alias", BOTH)
    def test_each_row_of_a_label_counts(self, rows: list[Any], alias: str) -> None:
        assert [ask(*rows).status for _ in range(2)] == ["miss", "hit"]
        Article.objects.using(alias).update(title="another")
        again = ask(*(Article.objects.using(alias).get() for alias in BOTH))
        assert told(again) == ("miss", "source_changed:library.article:1")

    def test_in_any_order_it_is_the_same_question(self, rows: list[Any]) -> None:
        ask(*rows)
        assert ask(*reversed(rows)).status == "hit"
        with aicache.scope(sources=rows[1:]):
            assert ask(rows[0]).status == "hit"

    def test_with_each_others_content_it_is_another(self, rows: list[Any]) -> None:
        ask(*rows)
        for row, title in zip(rows, reversed(BOTH), strict=True):
            row.title = title
        assert ask(*rows).status == "miss"

    def test_an_inner_scopes_instance_of_a_row_takes_the_outer_ones_place(self, rows: list[Any]) -> None:
        first = ask(rows[0])
        old = Article.objects.get()
        old.title = "old"
        with aicache.scope(sources=[old]):
            assert (ask(rows[0]).key, ask(rows[0]).status) == (first.key, "hit")

    @pytest.mark.parametrize("order", [1, -1])
    def test_each_has_its_tenant(self, order: int) -> None:
        rows = []
        for number, alias in enumerate(BOTH, 7):
            org = Org.objects.using(alias).create(pk=number, name="a")
            rows.append(Ticket.objects.using(alias).create(pk=1, org=org))
        for tenant in (7, 8):
            with pytest.raises(TenantMismatch):
                ask(*rows[::order], tenant=tenant)


class TestWhatIsNotInMemory:
    @pytest.fixture
    def partly(self) -> Any:
        Article.objects.create(title="a", body="b")
        return Article.objects.only("title").get()

    def test_is_loaded_on_another_connection(self, partly: Any) -> None:
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            assert [ask(partly).status for _ in range(2)] == ["miss", "hit"]
        assert [query["sql"] for query in captured if "library_article" in query["sql"]] == []
        Article.objects.update(body="c")
        assert ask(partly).reason == f"source_changed:library.article:{partly.pk}"

    def test_costs_the_cache_and_not_the_answer_where_it_cannot_be(self, partly: Any, failing: None) -> None:
        info = ask(partly)
        assert told(info) == ("degraded", "database")
        assert info.tags == {"library.article", f"library.article:{partly.pk}"}

    def test_of_an_expression_too(self, failing: None) -> None:
        article = Article.objects.create(title="a")
        assert ask(article).status == "miss"
        article.views = F("views") + 1  # type: ignore[assignment]
        assert told(ask(article)) == ("degraded", "database")

    def test_of_a_version_by_name_too(self, failing: None) -> None:
        Memo.objects.create(text="a")
        assert told(ask(Memo.objects.only("owner").get())) == ("degraded", "database")

    def test_an_answer_from_before_is_not_served_meanwhile(self, partly: Any, request: Any) -> None:
        async def asking() -> Any:
            with aicache.scope(tenant="acme", sources=[partly]):
                return call()

        asyncio.run(asking())  # with its deferred columns unknown
        request.getfixturevalue("failing")
        assert told(ask(partly)) == ("degraded", "database")

    def test_is_waited_for_no_longer_than_the_budget(self, partly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        release = threading.Event()
        monkeypatch.setattr(loads, "_row", lambda *_: release.wait(30))
        monkeypatch.setattr(loads, "BUDGET", 0.05)
        try:
            assert told(ask(partly)) == ("degraded", "database")
        finally:
            release.set()

    def test_all_of_a_call_has_one_budget(self, partly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(loads.time, "monotonic", lambda: now[0])
        asked = Loads()
        asked.row(partly, Article, {"pk": partly.pk}, ("body",))
        now[0] += loads.BUDGET + 0.01
        release = threading.Event()
        monkeypatch.setattr(loads, "_row", lambda *_: release.wait(30))
        try:
            with pytest.raises(Unavailable):
                asked.row(partly, Article, {"pk": partly.pk}, ("body",))
        finally:
            release.set()

    def test_each_change_of_state_is_one_line(
        self, partly: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "aicache"):
            with monkeypatch.context() as patched:
                patched.setattr(loads, "_row", lambda *_: 1 / 0)
                for _ in range(3):
                    ask(partly)
            for _ in range(3):
                ask(partly)
        assert [record.getMessage() for record in caplog.records] == [
            "the database does not tell what a source is: such calls go to upstream",
            "the database tells again what a source is",
        ]


class TestATenantsPath:
    @pytest.fixture
    def note(self) -> Any:
        Note.objects.create(team=Team.objects.create(org=Org.objects.create(pk=7, name="a")), text="a")
        return Note.objects.get()

    def test_is_followed_on_another_connection(self, note: Any) -> None:
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            assert ask(note, tenant=7).status == "miss"
            with pytest.raises(TenantMismatch):
                ask(note, tenant=8)
        assert [query["sql"] for query in captured if "library_team" in query["sql"]] == []
        assert not Note.team.is_cached(note)

    def test_costs_nothing_in_memory(self, note: Any, failing: None) -> None:
        assert ask(Note.objects.select_related("team").get(), tenant=7).status == "miss"
        assert ask(Note(pk=5, text="a"), tenant=8).status == "miss"

    def test_of_a_row_of_which_it_is_deferred(self, note: Any) -> None:
        partly = Note.objects.only("text").get()
        assert source_of(partly).tenant() == "7"
        assert "team_id" not in vars(partly)

    def test_of_a_row_that_leads_nowhere(self, note: Any) -> None:
        Team.objects.update(org=None)
        assert source_of(note).tenant() is None

    def test_of_a_column_that_is_yet_to_be_computed(self) -> None:
        ticket = Ticket.objects.create(org=Org.objects.create(pk=7, name="a"))
        ticket.org_id = F("org_id")  # type: ignore[assignment]
        assert source_of(ticket).tenant() == "7"

    @pytest.mark.parametrize("path", ["team__org", "team__org_id", "team.org.pk", "team__org__id"])
    def test_however_it_is_spelled(self, note: Any, registered: Any, path: str) -> None:
        registered(Note, tenant=path)
        assert source_of(note).tenant() == "7"
        assert source_of(Note.objects.select_related("team").get()).tenant() == "7"

    def test_costs_the_cache_and_not_the_answer_where_the_database_fails(self, note: Any, failing: None) -> None:
        assert told(ask(note, tenant=7)) == ("degraded", "database")
        with aicache.scope(sources=[note]), override_settings(AICACHE={"TENANT": lambda: "8"}):
            assert told(call()) == ("degraded", "database")

    def test_or_does_not_know_the_row_yet(self, note: Any) -> None:
        note.team_id = 99
        assert told(ask(note, tenant=7)) == ("degraded", "database")

    def test_in_an_event_loop_django_says_what_is_the_matter(self, note: Any) -> None:
        async def tenant() -> Any:
            return source_of(note).tenant()

        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(tenant())


class TestACallableOfTheSites:
    @pytest.mark.parametrize("name", ["tenant", "tags", "version"])
    def test_whose_query_fails_costs_the_cache_and_not_the_answer(self, registered: Any, name: str) -> None:
        def fail(row: Any) -> Any:
            raise OperationalError("the server closed the connection unexpectedly")

        registered(Loose, **{name: fail})
        assert told(ask(Loose.objects.create(text="a"))) == ("degraded", "database")

    def test_whose_mistake_it_is_is_said(self, registered: Any) -> None:
        registered(Loose, version=lambda row: None)
        with pytest.raises(ArgumentError, match="the version of"):
            ask(Loose.objects.create(text="a"))


class TestInATestCase(TestCase):
    databases = frozenset(BOTH)

    def test_what_the_test_did_is_seen(self) -> None:
        org = Org.objects.create(pk=7, name="a")
        Note.objects.create(team=Team.objects.create(org=org), text="a")
        partly = Note.objects.defer("text").get()
        with memory():
            assert source_of(partly).version() == source_of(Note.objects.get()).version()
            assert source_of(partly).tenant() == "7"


class TestUnsaved:
    def test_what_has_but_the_key_that_any_new_one_gets_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match=r"an unsaved library\.ByUuid; accepted: saved instances"):
            aicache.scope(sources=[ByUuid(text="a")])
        row = ByUuid.objects.create(text="a")
        assert [ask(one).status for one in (row, ByUuid.objects.get())] == ["miss", "hit"]

    def test_an_instance_made_by_hand_of_a_row_that_is_there_is_not(self) -> None:
        row = Article.objects.create(title="a")
        assert ask(Article(pk=row.pk, title="a")).status == "miss"

    def test_a_source_that_is_deleted_inside_its_scope_ends_the_cache_there(self, aicache_memory: MemoryStore) -> None:
        article = Restaurant.objects.create(name="a")
        label = f"library.restaurant:{article.pk}"
        with aicache.scope(tenant="acme", sources=[article], tags=["x"]):
            assert call().status == "miss"
            article.delete()
            after = [call() for _ in range(2)]
            with aicache.scope(tags=["y"]):
                assert told(call()) == ("bypass", "unsaved:library.restaurant")
        assert [told(info) for info in after] == [("bypass", "unsaved:library.restaurant")] * 2
        assert after[0].tags == {"x", "library.restaurant", label}
        assert not any("None" in tag.name for tag, _ in aicache_memory.names())

    def test_saved_again_it_is_a_source_again(self) -> None:
        article = Article.objects.create(title="a")
        with aicache.scope(tenant="acme", sources=[article]):
            article.pk = None
            assert call().status == "bypass"
            article.save()
            assert [call().status for _ in range(2)] == ["miss", "hit"]


@pytest.fixture(params=["remember", "claude"])
def asking(request: pytest.FixtureRequest, claude: ClaudeServer) -> Callable[..., aicache.CallInfo]:
    def by_claude(**changes: Any) -> aicache.CallInfo:
        with aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="key", max_retries=0)) as client:
            return aicache.info(client.messages.create(**{**QUESTION, **changes}))

    return call if request.param == "remember" else by_claude


class TestTheTagsThatAreTold:
    @pytest.fixture
    def ticket(self) -> Any:
        return Ticket.objects.create(org=Org.objects.create(pk=7, name="a"), queue="x")

    @pytest.fixture
    def named(self, ticket: Any) -> set[str]:
        return {"mine", "library.ticket", f"library.ticket:{ticket.pk}", "queue:x"}

    @pytest.mark.parametrize(
        "status", ["miss", "asked", "disabled", "unscoped", "uncommitted", "unreachable", "database"]
    )
    def test_are_those_of_the_scope_and_its_sources_whatever_the_status(
        self,
        asking: Any,
        ticket: Any,
        named: Any,
        status: str,
        aicache_memory: MemoryStore,
        request: Any,
        settings: Any,
    ) -> None:
        tenant = None if status == "unscoped" else 7
        if status == "database":
            request.getfixturevalue("failing")
            ticket = Ticket.objects.defer("text").get()
        settings.AICACHE = {"ENABLED": status != "disabled"}
        with aicache.scope(tenant=tenant, sources=[ticket], tags=["mine"], bypass=status == "asked"):
            aicache_memory.down = status == "unreachable"
            with transaction.atomic():
                if status == "uncommitted":
                    ticket.save()
                info = asking()
        assert status in (info.status, info.reason, info.reason.partition(":")[0])
        assert info.tags == named

    def test_also_of_what_cannot_be_cached(self, claude: ClaudeServer, ticket: Any, named: Any) -> None:
        with aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="key")) as client:
            with aicache.scope(tenant=7, sources=[ticket], tags=["mine"]) as calls:
                client.messages.create(**{**QUESTION, "max_tokens": 0})
        assert calls.last is not None
        assert (calls.last.reason, calls.last.tags) == ("prewarm", named)


def test_outside_of_a_scope_with_sources_nothing_is_read() -> None:
    read = current().read("acme")
    assert (read.names, read.versions, read.tags, read.status) == (frozenset(), (), (), None)
