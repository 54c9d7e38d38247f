# ruff: noqa: DJ008 - nobody looks at them
from __future__ import annotations

import asyncio
import datetime
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models
from django.db.backends.signals import connection_created
from django.db.models import F
from django.test.utils import CaptureQueriesContext, isolate_apps

from aicache.errors import ArgumentError
from aicache.freshness.registry import is_label, register, source_of, verify
from aicache.tenants import GLOBAL
from tests.freshness.library.models import (
    Article,
    AudioBook,
    ByName,
    ByUuid,
    Dated,
    Event,
    FeaturedArticle,
    Kinds,
    Loose,
    LooseProxy,
    Meeting,
    Memo,
    Note,
    Org,
    Restaurant,
    Seat,
    Team,
    Ticket,
    Touched,
    Unregistered,
)
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True)


class TestRegister:
    def test_returns_the_model_in_every_form(self, registered: Any) -> None:
        assert registered(Loose, tenant="text") is Loose
        assert register()(Loose) is Loose
        assert register(tenant="text")(Loose) is Loose

    def test_labels_are_those_of_concrete_models(self) -> None:
        for label in ("article", "event", "meeting", "restaurant", "audiobook"):
            assert is_label(f"library.{label}")
        for label in ("featuredarticle", "dated", "unregistered", "place", "Article", ""):
            assert not is_label(f"library.{label}")

    def test_a_second_time_replaces_the_first(self, registered: Any, store: Recorder) -> None:
        registered(Loose, tags=["a"])
        registered(Loose, tags=["b"])
        row = Loose.objects.create(text="x")
        assert store.stamped == [[*store.stamped[0]]]
        assert store.tags == tags(f"library.loose:{row.pk}", "library.loose:*", "b")

    @pytest.mark.parametrize("model", [Loose, LooseProxy])
    def test_a_proxy_and_its_model_are_one(self, registered: Any, store: Recorder, model: Any) -> None:
        registered(model, tags=["a"])
        for way in (Loose, LooseProxy):
            row = way.objects.create(text="x")
            names = f"library.loose:{row.pk}", "library.loose:*", "a"
            assert store.taken() == tags(*names)
            way.objects.all().delete()
            assert store.taken() == tags(*names)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"tenant": "nobody"}, ["tenant is 'nobody'", "Note has no field 'nobody'"]),
            ({"tenant": "team__nobody"}, ["tenant is 'team__nobody'", "Team has no field 'nobody'"]),
            ({"tenant": "text__org"}, ["'text' leads nowhere"]),
            ({"tenant": ""}, ["Note has no field ''"]),
            ({"tenant": 7}, ["tenant is 7", "a path of fields"]),
            ({"tenant": Org}, ["tenant is", "a path of fields"]),
            ({"version": "nothing"}, ["version is 'nothing'", "no field of Note"]),
            ({"version": 7}, ["version is 7"]),
            ({"version": "notes"}, ["version is 'notes'"]),
            ({"tenant": "team__id__x"}, ["'id' leads nowhere"]),
            ({"tags": "one"}, ["tags is 'one'", "a list of names"]),
            ({"tags": 7}, ["tags is 7"]),
            ({"tags": {"a": 1}}, ["tags is {'a': 1}", "a list of names"]),
            ({"tags": ["a", 7]}, ["tags contains 7 (int)"]),
            ({"tags": ["x" * 201]}, ["of 201 bytes"]),
            ({"tags": [""]}, ["of 0 bytes"]),
            ({"tags": [str(number) for number in range(65)]}, ["65 tags", "at most 64"]),
            ({"skip_unchanged": 1}, ["skip_unchanged is 1"]),
        ],
        ids=repr,
    )
    def test_an_argument_that_cannot_be_used_is_named(self, given: dict[str, Any], said: list[str]) -> None:
        with pytest.raises(ArgumentError) as caught:
            register(Note, **given)
        for words in said:
            assert words in str(caught.value)

    @pytest.mark.parametrize("given", [7, "library.Article", object, models.Model])
    def test_what_is_no_model_is_refused(self, given: Any) -> None:
        with pytest.raises(ArgumentError, match=r"model is .*accepted: a model class"):
            register(given)

    def test_async_callables_are_refused(self) -> None:
        async def later(instance: Any) -> str:
            return "a"

        for name in ("tenant", "tags", "version"):
            with pytest.raises(ArgumentError, match=f"{name} is the async"):
                register(Note, **{name: later})  # type: ignore[call-overload]

    @isolate_apps("tests.freshness.library")
    def test_a_path_over_models_that_come_later_is_checked_when_they_are_there(self, registered: Any) -> None:
        class Early(models.Model):
            later = models.ForeignKey("Later", models.CASCADE)

            class Meta:
                app_label = "library"

        registered(Early, tenant="later__nothing")

        class Later(models.Model):
            class Meta:
                app_label = "library"

        with pytest.raises(ArgumentError, match="Later has no field 'nothing'"):
            verify()

    @isolate_apps("tests.freshness.library")
    def test_heirs_and_proxies_that_come_later_are_seen(self, registered: Any) -> None:
        class Latest(Dated):
            class Meta:
                app_label = "library"

        class LatestProxy(Latest):
            class Meta:
                app_label = "library"
                proxy = True

        assert is_label("library.latest")
        for model in (Latest, LatestProxy):
            assert models.signals.pre_delete.has_listeners(model)
            assert getattr(model._save_table, "aicache", False)

    def test_importing_it_needs_no_settings_and_no_models(self) -> None:
        code = (
            "import sys, aicache.freshness.registry, aicache.freshness.outbox, aicache.freshness.generations\n"
            "import aicache.freshness.drain, aicache.signals\n"
            "assert 'aicache.models' not in sys.modules"
        )
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
        ran = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()


class TestSource:
    def test_names(self) -> None:
        article = Article.objects.create(title="a")
        source = source_of(article)
        assert source.label == f"library.article:{article.pk}"
        assert source.names() == {source.label, "library.article"}
        assert source_of(FeaturedArticle.objects.get()).names() == source.names()

    def test_names_that_the_site_adds(self) -> None:
        ticket = Ticket.objects.create(queue="x")
        assert source_of(ticket).names() == {f"library.ticket:{ticket.pk}", "library.ticket", "queue:x"}
        event = Event.objects.create(name="x")
        assert source_of(event).names() == {f"library.event:{event.pk}", "library.event", "dates"}

    def test_it_is_read_at_each_call(self) -> None:
        ticket = Ticket.objects.create(queue="x", org=Org.objects.create(name="a"))
        source = source_of(ticket)
        before = source.names(), source.version(), source.tenant()
        ticket.queue, ticket.org_id = "y", None
        after = source.names(), source.version(), source.tenant()
        assert [one != other for one, other in zip(before, after, strict=True)] == [True] * 3

    def test_keys_that_are_written_otherwise_are_the_same(self) -> None:
        one = ByUuid.objects.create(pk=uuid.UUID(int=7).hex)
        assert source_of(one).label == source_of(ByUuid.objects.get()).label == f"library.byuuid:{uuid.UUID(int=7)}"
        assert source_of(Article(pk="7")).label == "library.article:7"
        assert len(source_of(ByName(pk="ü" * 500)).label.encode()) <= 200

    def test_it_shows_its_label(self) -> None:
        assert repr(source_of(Article(pk=7))) == "<Source library.article:7>"

    def test_an_heir_has_its_own(self) -> None:
        book = AudioBook.objects.create(title="a", voice="b")
        assert source_of(book).label == f"library.audiobook:{book.pk}"
        assert source_of(Restaurant(pk=3)).label == "library.restaurant:3"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (Article(), "unsaved library.Article"),
            (ByUuid(), "unsaved library.ByUuid; accepted: saved instances; where keys have a default"),
            (Seat(row=1), "unsaved library.Seat"),
            (Unregistered(pk=1), "library.Unregistered, which is not registered"),
            ("library.article:1", "(str); accepted: model instances"),
            (Article, "accepted: model instances"),
        ],
        ids=["unsaved", "by default", "half", "unregistered", "text", "class"],
    )
    def test_what_cannot_be_one_is_refused(self, given: Any, said: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            source_of(given)
        assert said in str(caught.value)

    def test_of_a_callables_odd_result_it_is_said(self, registered: Any) -> None:
        registered(Loose, tenant=lambda row: 1.5, tags=lambda row: "x", version=lambda row: None)
        source = source_of(Loose(pk=1))
        with pytest.raises(ArgumentError, match=r"the tenant of library.Loose 1"):
            source.tenant()
        with pytest.raises(ArgumentError, match=r"the tags of library.Loose 1"):
            source.names()
        with pytest.raises(ArgumentError, match=r"the version of library.Loose 1"):
            source.version()


class TestTheTenant:
    @pytest.mark.parametrize("path", ["team__org", "team.org", "team__org_id"])
    def test_by_a_path_over_relations(self, registered: Any, path: str) -> None:
        org = Org.objects.create(name="a")
        note = Note.objects.create(team=Team.objects.create(org=org))
        registered(Note, tenant=path)
        assert source_of(note).tenant() == str(org.pk)

    def test_the_last_relation_costs_no_query(self) -> None:
        ticket = Ticket.objects.create(org=Org.objects.create(name="a"))
        with CaptureQueriesContext(connection) as captured:
            assert source_of(Ticket(pk=1, org_id=ticket.org_id)).tenant() == str(ticket.org_id)
        assert len(captured) == 0

    def test_of_a_tenant_itself(self, registered: Any) -> None:
        registered(Org, tenant="pk")
        assert source_of(Org(pk=4)).tenant() == "4"

    @pytest.mark.parametrize(
        ("said", "tenant"), [("a", "a"), (7, "7"), (None, None), ("", None), (GLOBAL, None), (Org(pk=5), "5")], ids=repr
    )
    def test_by_a_callable(self, registered: Any, said: Any, tenant: str | None) -> None:
        registered(Loose, tenant=lambda row: said)
        assert source_of(Loose(pk=1)).tenant() == tenant

    def test_of_a_single_tenant_site_is_nobody(self, settings: Any) -> None:
        settings.AICACHE = {"SINGLE_TENANT": True}
        assert source_of(Ticket(pk=1, org_id=3)).tenant() is None


class TestTheVersion:
    def test_a_field_or_a_callable(self, registered: Any) -> None:
        memo = Memo.objects.create(text="a")
        before = source_of(memo).version()
        assert before == memo.updated_at.astimezone(datetime.UTC).isoformat()
        Memo.objects.update(text="b")
        assert source_of(Memo.objects.get()).version() == before
        registered(Loose, version=lambda row: 7)
        assert source_of(Loose(pk=1)).version() == "7"

    def test_every_column_is_in_it_those_of_parents_too(self) -> None:
        restaurant = Restaurant.objects.create(name="a")
        versions = {source_of(restaurant).version()}
        for change in ({"name": "b"}, {"stars": 1}):
            Restaurant.objects.update(**change)
            versions.add(source_of(Restaurant.objects.get()).version())
        assert len(versions) == 3

    def test_what_was_saved_is_what_is_loaded(self) -> None:
        zone = datetime.timezone(datetime.timedelta(hours=2))
        kinds = Kinds.objects.create(
            at=datetime.datetime(2026, 1, 2, 3, 4, 5, 6, zone),
            price="1.5",
            ratio=1,
            data={"b": [1], "a": None},
            raw=b"\xff\x00",
            took=datetime.timedelta(seconds=3),
            file="a.txt",
            hour="12:30",
            key=uuid.UUID(int=7).hex,
            own="a b",
        )
        saved = source_of(kinds).version()
        assert saved == source_of(Kinds.objects.get()).version()
        for change in (
            {"at": None},
            {"price": Decimal("1.51")},
            {"ratio": 1.5},
            {"data": {"b": [2]}},
            {"raw": b"\xff"},
            {"took": None},
            {"file": "b.txt"},
            {"at": datetime.datetime(2026, 1, 2, 3, 4, 5, 7, zone)},
            {"at": datetime.datetime(2026, 1, 2, 3, 4, 5, 8, zone)},
            {"hour": datetime.time(1, 2, 3, 4)},
            {"hour": datetime.time(1, 2, 3, 5)},
            {"key": None},
            {"own": "c d"},
        ):
            Kinds.objects.update(**change)
            assert saved != (saved := source_of(Kinds.objects.get()).version())

    def test_what_a_save_alone_moves_is_not_in_it_where_such_saves_are_skipped(self, store: Recorder) -> None:
        before = Touched.objects.create(text="a")
        version = source_of(before).version()
        store.stamped.clear()
        Touched.objects.get().save()

        now = Touched.objects.get()
        assert now.touched_at > before.touched_at
        assert (source_of(now).version(), store.stamped) == (version, [])
        Touched.objects.update(text="b")
        assert source_of(Touched.objects.get()).version() != version

    def test_where_they_are_not_skipped_it_is(self, registered: Any) -> None:
        registered(Touched)
        before = source_of(Touched.objects.create(text="a")).version()
        Touched.objects.get().save()
        assert source_of(Touched.objects.get()).version() != before

    def test_null_is_not_the_text_of_it(self) -> None:
        assert source_of(ByName(pk="a", text=None)).version() != source_of(ByName(pk="a", text="None")).version()  # type: ignore[misc]
        assert source_of(ByName(pk="a", text="null")).version() != source_of(ByName(pk="a", text=None)).version()  # type: ignore[misc]

    def test_what_is_deferred_is_loaded_at_once_and_not_on_the_callers_connection(self) -> None:
        article = Article.objects.create(title="a", body="b")
        partly: Any = Article.objects.only("views").get()
        partly.views = F("views")
        asked: list[str] = []

        def count(execute: Any, sql: str, *rest: Any) -> Any:
            asked.append(sql)
            return execute(sql, *rest)

        def hear(connection: Any, **_: Any) -> None:
            connection.execute_wrappers.append(count)

        connection_created.connect(hear)
        with CaptureQueriesContext(connection) as captured:
            assert source_of(partly).version() == source_of(article).version()
        assert (len(captured), len([sql for sql in asked if "library_article" in sql])) == (0, 1)

    def test_nothing_is_written_to_the_callers_instance(self) -> None:
        Article.objects.create(title="a")
        partly = Article.objects.only("title").get()
        before = dict(vars(partly))
        source_of(partly).version()
        assert vars(partly) == before

    def test_an_expression_is_what_the_database_made_of_it(self) -> None:
        article = Article.objects.create(title="a")
        article.views = F("views") + 1  # type: ignore[assignment]
        article.save()
        assert source_of(article).version() == source_of(Article.objects.get()).version()

    def test_an_expression_that_is_yet_to_be_saved_stays(self) -> None:
        article = Article.objects.create(title="a")
        before = source_of(article).version()
        article.views = F("views") + 1  # type: ignore[assignment]
        assert source_of(article).version() == before
        article.save()
        assert Article.objects.get().views == 1

    def test_in_an_event_loop_nothing_is_loaded(self) -> None:
        article = Article.objects.create(title="a")

        async def version(row: Any) -> str:
            return source_of(row).version()

        partly = Article.objects.only("title").get()
        loop = asyncio.run(version(partly))
        assert loop == asyncio.run(version(partly))
        assert loop != source_of(article).version()
        assert asyncio.run(version(article)) == source_of(article).version()

    def test_a_row_that_is_gone_has_one(self) -> None:
        Article.objects.create(title="a")
        partly = Article.objects.only("title").get()
        Article.objects.all().delete()
        assert source_of(partly).version() == source_of(partly).version()

    def test_it_is_the_same_in_every_process(self) -> None:
        day = datetime.date(2026, 1, 2)
        expected = "30934e43"
        assert source_of(Meeting(pk=3, name="ü", day=day)).version()[:8] == expected
