from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.db import transaction
from django.db.migrations.state import ProjectState

import aicache
from aicache.errors import ArgumentError, TenantMismatch
from aicache.freshness.outbox import uncommitted
from aicache.invalidation import MOST_ROWS, invalidate
from aicache.models import Invalidation
from tests.freshness.library.models import Article, Contract, Document, Note, Org, Team, Ticket, Unregistered
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class TestRows:
    def test_an_instance(self, store: Recorder) -> None:
        org = Org.objects.create(name="a")
        ticket = Ticket(pk=5, org=org, queue="x")
        invalidate(ticket)
        assert store.tags == tags("library.ticket:5", "library.ticket:*", "queue:x", tenant=org.pk)

    def test_what_inherits_from_it_too(self, store: Recorder) -> None:
        contract = Contract.objects.create(title="a")
        store.stamped.clear()
        Document.objects.update(title="b")
        invalidate(Document.objects.get())
        names = [f"library.{model}:{key}" for model in ("contract", "document") for key in (contract.pk, "*")]
        assert store.tags == tags(*names)

    def test_a_queryset_after_what_no_signal_told_of(self, store: Recorder) -> None:
        Article.objects.bulk_create([Article(title=str(number)) for number in range(3)])
        assert store.tags == set()
        with transaction.atomic():
            Article.objects.update(title="b")
            invalidate(Article.objects.filter(title="b"))
            assert store.tags == set()
        keys = [f"library.article:{key}" for key in Article.objects.values_list("pk", flat=True)]
        assert store.tags == tags("library.article:*", *keys)

    def test_an_empty_queryset_is_nothing(self, store: Recorder) -> None:
        invalidate(Article.objects.none())
        assert store.stamped == []
        assert not Invalidation.objects.exists()

    def test_many_rows_are_the_model(self, store: Recorder) -> None:
        one, two = Org.objects.create(name="a"), Org.objects.create(name="b")
        Ticket.objects.bulk_create(Ticket(org=one if number % 2 else two, queue="x") for number in range(MOST_ROWS + 1))
        invalidate(Ticket.objects.all())
        names = "library.ticket", "library.ticket:*", "queue:x"
        assert store.tags == tags(*names, tenant=one.pk) | tags(*names, tenant=two.pk)

    def test_many_rows_of_tenants_are_asked_for_at_once(self, store: Recorder) -> None:
        teams = [Team.objects.create(org=Org.objects.create(name="a")) for _ in range(3)]
        Note.objects.bulk_create(Note(team=teams[number % 2], text="x") for number in range(2 * MOST_ROWS))
        Note.objects.create(text="x")
        store.stamped.clear()
        invalidate(Note.objects.order_by("pk"))
        names = "library.note", "library.note:*"
        wanted = tags(*names, tenant=teams[0].org_id) | tags(*names, tenant=teams[1].org_id) | tags(*names)
        assert store.taken() == wanted
        invalidate(Note.objects.order_by("-pk")[: MOST_ROWS + 1])
        assert store.taken() == wanted

    def test_a_migrations_historical_row(self, store: Recorder) -> None:
        org = Org.objects.create(name="a")
        historical: Any = ProjectState.from_apps(apps).apps.get_model("library", "Ticket")
        ticket = historical.objects.create(org_id=org.pk, queue="x")
        assert store.taken() == set()
        names = f"library.ticket:{ticket.pk}", "library.ticket:*"
        invalidate(historical.objects.all())
        assert store.taken() == tags(*names, "queue:x", tenant=org.pk)

    def test_for_a_further_tenant(self, store: Recorder) -> None:
        one, two = Org.objects.create(name="a"), Org.objects.create(name="b")
        ticket = Ticket.objects.create(org=one)
        store.stamped.clear()
        names = f"library.ticket:{ticket.pk}", "library.ticket:*", "queue:first"
        invalidate(ticket, tenant=two.pk)
        assert store.tags == tags(*names, tenant=one.pk) | tags(*names, tenant=two.pk)


class TestTags:
    def test_of_a_tenant_that_is_given(self, store: Recorder) -> None:
        invalidate("a", "b", tenant=7)
        assert store.tags == tags("a", "b", tenant=7)

    def test_of_the_scopes_tenant(self, store: Recorder) -> None:
        with aicache.scope(tenant="acme"):
            invalidate("a")
        assert store.tags == tags("a", tenant="acme")

    def test_of_the_sites_tenant(self, store: Recorder, settings: Any) -> None:
        settings.AICACHE = {"TENANT": lambda: "acme"}
        invalidate("a")
        assert store.tags == tags("a", tenant="acme")

    def test_of_everybody(self, store: Recorder) -> None:
        invalidate("a", tenant=aicache.GLOBAL)
        assert store.tags == tags("a")

    def test_of_nobody_is_an_error(self) -> None:
        with pytest.raises(ArgumentError, match="tenant is needed for 'a'"):
            invalidate("a")

    def test_of_a_single_tenant_site(self, store: Recorder, settings: Any) -> None:
        settings.AICACHE = {"SINGLE_TENANT": True}
        invalidate("a")
        assert len(store.tags) == 1
        with pytest.raises(TenantMismatch, match="SINGLE_TENANT"):
            invalidate("a", tenant="acme")

    def test_are_kept_in_the_open_transactions_database(self) -> None:
        with transaction.atomic("other"):
            invalidate("a", tenant="t")
            assert uncommitted(list(tags("a", tenant="t"))) is not None
        invalidate("b", tenant="t")
        assert [row.tag for row in Invalidation.objects.using("other")] == ["a"]
        assert [row.tag for row in Invalidation.objects.all()] == ["b"]

    def test_are_kept_where_it_is_said(self) -> None:
        with transaction.atomic():
            invalidate("a", tenant="t", using="other")
        assert Invalidation.objects.using("other").count() == 1


@pytest.mark.parametrize(
    ("targets", "given", "said"),
    [
        ([7], {}, "targets contains 7 (int)"),
        ([Unregistered(pk=1)], {}, "library.Unregistered rows, which is not registered"),
        ([Unregistered.objects.all()], {}, "library.Unregistered rows, which is not registered"),
        ([Article()], {}, "an unsaved library.Article"),
        ([Article.objects.values("pk")], {}, "as values()"),
        ([""], {"tenant": "t"}, "of 0 bytes"),
        (["x" * 201], {"tenant": "t"}, "of 201 bytes"),
        (["a"], {"tenant": ""}, "tenant is ''"),
        (["a"], {"tenant": 1.5}, "tenant is 1.5"),
        (["a"], {"tenant": "t", "using": "nowhere"}, "using is 'nowhere'"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_cannot_be_used_is_named(targets: list[Any], given: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        invalidate(*targets, **given)
    assert said in str(caught.value)
    assert not Invalidation.objects.exists()
