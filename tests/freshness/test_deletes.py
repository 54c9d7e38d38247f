from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from aicache.models import Invalidation
from tests.freshness.library.models import (
    Article,
    Comment,
    Contract,
    Document,
    Draft,
    FeaturedArticle,
    Folder,
    Note,
    Org,
    Paper,
    Place,
    Reader,
    Receipt,
    Restaurant,
    Team,
    Ticket,
    Unregistered,
)
from tests.freshness.recorder import Recorder, tags
from tests.freshness.test_saves import MARKED, OUTBOX, queries

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def article(store: Recorder) -> Article:
    article = Article.objects.create(title="a")
    store.stamped.clear()
    return article


def test_an_instance(article: Article, store: Recorder) -> None:
    names = f"library.article:{article.pk}", "library.article:*"
    article.delete()
    assert store.tags == tags(*names)


def test_it_begins_with_a_write(article: Article) -> None:
    comment = Comment.objects.create(article=article, text="a")
    with CaptureQueriesContext(connection) as captured:
        comment.delete()
    assert queries(captured) == ["BEGIN", OUTBOX, "DELETE library_comment", "COMMIT", MARKED]


def test_a_queryset_costs_two_inserts_whatever_its_size(article: Article, store: Recorder) -> None:
    comments = [Comment.objects.create(article=article, text="a") for _ in range(20)]
    store.stamped.clear()
    with CaptureQueriesContext(connection) as captured:
        Comment.objects.all().delete()
    assert queries(captured).count(OUTBOX) == 2
    assert store.tags == tags("library.comment:*", *(f"library.comment:{comment.pk}" for comment in comments))


def test_a_cascade(article: Article, store: Recorder) -> None:
    comment = Comment.objects.create(article=article, text="a")
    store.stamped.clear()
    names = f"library.article:{article.pk}", "library.article:*", f"library.comment:{comment.pk}", "library.comment:*"
    article.delete()
    assert store.tags == tags(*names)


def test_a_cascade_from_what_is_not_registered(store: Recorder) -> None:
    org = Org.objects.create(name="a")
    note = Note.objects.create(team=Team.objects.create(org=org), text="a")
    store.stamped.clear()
    key = org.pk
    org.delete()
    assert store.tags == tags(f"library.note:{note.pk}", "library.note:*", tenant=key)


@pytest.mark.parametrize("how", ["instance", "queryset"])
def test_a_proxy(article: Article, store: Recorder, how: str) -> None:
    names = f"library.article:{article.pk}", "library.article:*"
    if how == "instance":
        FeaturedArticle.objects.get().delete()
    else:
        FeaturedArticle.objects.all().delete()
    assert store.tags == tags(*names)


def test_heirs_and_parents(store: Recorder) -> None:
    restaurant = Restaurant.objects.create(name="a")
    store.stamped.clear()
    names = f"library.restaurant:{restaurant.pk}", "library.restaurant:*"
    Place.objects.all().delete()
    assert store.tags == tags(*names)

    org = Org.objects.create(name="a")
    for model in (Contract, Document):
        contract = Contract.objects.create(org=org)
        store.stamped.clear()
        wanted = [f"library.{name}:{key}" for name in ("contract", "document") for key in (contract.pk, "*")]
        model.objects.get().delete()
        assert store.tags == tags(*wanted, tenant=org.pk)


def test_of_the_tenant_it_has_in_the_database(store: Recorder) -> None:
    one, two = Org.objects.create(name="a"), Org.objects.create(name="b")
    ticket = Ticket.objects.create(org=one)
    store.stamped.clear()
    ticket.org = two
    names = f"library.ticket:{ticket.pk}", "library.ticket:*", "queue:first"
    ticket.delete()
    assert store.tags == tags(*names, tenant=one.pk) | tags(*names, tenant=two.pk)


class TestWhatIsSetByADeletion:
    def test_is_changed(self, article: Article, store: Recorder) -> None:
        reader = Reader.objects.create(name="a")
        draft = Draft.objects.create(article=article, reader=reader, text="a")
        Draft.objects.create(text="b")
        store.stamped.clear()
        names = f"library.draft:{draft.pk}", "library.draft:*"
        Reader.objects.all().delete()
        assert store.taken() == tags(*names)
        article_names = f"library.article:{article.pk}", "library.article:*"
        FeaturedArticle.objects.get().delete()
        assert store.taken() == tags(*names, *article_names)

    def test_and_everybodys_where_it_is_the_tenant(self, store: Recorder) -> None:
        org = Org.objects.create(name="a")
        draft = Draft.objects.create(org=org, text="a")
        store.stamped.clear()
        names, key = (f"library.draft:{draft.pk}", "library.draft:*"), org.pk
        org.delete()
        assert store.tags == tags(*names, tenant=key) | tags(*names)

    def test_it_begins_with_a_write_and_ends_with_two_inserts(self) -> None:
        for _ in range(5):
            Draft.objects.create(reader=Reader.objects.create(name="a"), text="a")
        with CaptureQueriesContext(connection) as captured:
            Reader.objects.all().delete()
        ran = queries(captured)
        assert ran[ran.index("BEGIN") + 1] == "UPDATE library_reader"
        assert ran.count(OUTBOX) == 2

    def test_only_of_the_model_whose_tenant_it_is(self, store: Recorder) -> None:
        folder = Folder.objects.create(name="a")
        receipt = Receipt.objects.create(owner="acme", folder=folder)
        mine, copy = Paper.objects.create(folder=folder), Paper.objects.create(copy_in=folder)
        store.stamped.clear()
        key = folder.pk
        folder.delete()
        papers = f"library.paper:{mine.pk}", "library.paper:*"
        assert store.tags == (
            tags(f"library.receipt:{receipt.pk}", "library.receipt:*", tenant="acme")
            | tags(*papers, tenant=key)
            | tags(*papers)
            | tags(f"library.paper:{copy.pk}", "library.paper:*")
        )

    def test_and_no_other_row_of_that_model_with_it(self, store: Recorder) -> None:
        folder, other = Folder.objects.create(name="a"), Folder.objects.create(name="b")
        copy = Paper.objects.create(folder=other, copy_in=folder)
        store.stamped.clear()
        folder.delete()
        assert store.tags == tags(f"library.paper:{copy.pk}", "library.paper:*", tenant=other.pk)

    def test_where_nothing_refers_to_it_nothing_is_changed(self, store: Recorder) -> None:
        Reader.objects.create(name="a").delete()
        assert store.stamped == []


def test_rolled_back_nothing_happened_and_the_next_try_is_whole(article: Article, store: Recorder) -> None:
    Comment.objects.create(article=article, text="a")
    Comment.objects.create(article=article, text="b")
    store.stamped.clear()
    before = Invalidation.objects.count()

    def fail(**kwargs: object) -> None:
        raise LookupError

    comments = Comment.objects.all()
    pre_delete.connect(fail, sender=Comment)
    try:
        with pytest.raises(LookupError):
            comments.delete()
    finally:
        pre_delete.disconnect(fail, sender=Comment)
    assert (store.stamped, Invalidation.objects.count()) == ([], before)
    keys = [comment.pk for comment in Comment.objects.all()]
    comments.all().delete()
    assert store.tags == tags("library.comment:*", *(f"library.comment:{key}" for key in keys))


class TestADeletionThatFails:
    @pytest.fixture(autouse=True)
    def _failing(self, heard: Any) -> None:
        self.fails = True

        def fail(**kwargs: object) -> None:
            if self.fails:
                raise LookupError

        self.fail = fail  # a receiver is held weakly
        heard(pre_delete, fail)

    @pytest.mark.parametrize("outer", [False, True], ids=["autocommit", "in a transaction"])
    def test_leaves_nothing_to_the_next_try(self, article: Article, store: Recorder, outer: bool) -> None:
        comment = Comment.objects.create(article=article, text="a")
        store.stamped.clear()
        names = f"library.comment:{comment.pk}", "library.comment:*"
        with transaction.atomic() if outer else contextlib.nullcontext():
            with pytest.raises(LookupError), transaction.atomic() if outer else contextlib.nullcontext():
                comment.delete()
            self.fails = False
            with CaptureQueriesContext(connection) as captured:
                comment.delete()
        ran = [query for query in queries(captured) if query not in ("BEGIN", "SAVEPOINT", "RELEASE")]
        assert ran[0] == OUTBOX
        assert store.tags == tags(*names)

    def test_and_the_next_locks_first_again(self) -> None:
        reader = Reader.objects.create(name="a")
        Draft.objects.create(reader=reader, text="a")
        with pytest.raises(LookupError):
            reader.delete()
        self.fails = False
        with CaptureQueriesContext(connection) as captured:
            reader.delete()
        ran = queries(captured)
        assert ran[ran.index("BEGIN") + 1] == "UPDATE library_reader"


def test_in_a_transaction_it_waits_for_the_commit(article: Article, store: Recorder) -> None:
    with transaction.atomic():
        article.delete()
        assert store.stamped == []
    assert store.tags >= tags("library.article:*")


def test_the_fast_deletes_of_other_models_stay_fast() -> None:
    Unregistered.objects.create(text="a")
    Unregistered.objects.create(text="b")
    with CaptureQueriesContext(connection) as captured:
        Unregistered.objects.all().delete()
    assert queries(captured) == ["BEGIN", "DELETE library_unregistered", "COMMIT"]
