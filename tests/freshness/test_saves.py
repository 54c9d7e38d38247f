from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from aicache.freshness.registry import source_of
from aicache.models import Invalidation
from tests.freshness.library.models import (
    Article,
    Audio,
    AudioBook,
    Book,
    ByName,
    ByUuid,
    Careful,
    Chapter,
    Comment,
    Contract,
    Document,
    Event,
    FeaturedArticle,
    Memo,
    Note,
    Org,
    Page,
    Place,
    Restaurant,
    Seat,
    Team,
    Ticket,
    Unregistered,
)
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True)


def queries(captured: CaptureQueriesContext) -> list[str]:
    """Each by its verb and table."""
    words = [query["sql"].replace('"', "").split() for query in captured]
    tables = {"INSERT": 2, "UPDATE": 1, "DELETE": 2}
    return [f"{word[0]} {word[tables[word[0]]]}" if word[0] in tables else word[0] for word in words]


OUTBOX = "INSERT aicache_invalidation"
MARKED = "UPDATE aicache_invalidation"


class TestInAutocommit:
    def test_a_new_row_ends_what_hangs_on_all_rows(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")

        assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
        assert not Invalidation.objects.filter(applied_at=None).exists()

    def test_row_and_invalidation_are_one_transaction_that_begins_with_a_write(self) -> None:
        article = Article.objects.create(title="a")
        with CaptureQueriesContext(connection) as captured:
            article.save()

        assert queries(captured) == ["BEGIN", OUTBOX, "UPDATE library_article", "COMMIT", MARKED]

    def test_where_the_invalidation_cannot_be_written_the_row_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise DatabaseError("no space")

        article = Article.objects.create(title="a")
        monkeypatch.setattr("aicache.freshness.outbox._insert", fail)
        article.title = "b"
        with pytest.raises(DatabaseError, match="no space"):
            article.save()
        with pytest.raises(DatabaseError, match="no space"):
            Article.objects.create(title="c")
        assert list(Article.objects.values_list("title", flat=True)) == ["a"]

    def test_where_the_row_cannot_be_written_the_invalidation_is_not(self, store: Recorder) -> None:
        before = Invalidation.objects.count()
        with pytest.raises(IntegrityError):
            Article(pk=7, title=None).save()  # type: ignore[misc]

        assert Invalidation.objects.count() == before
        assert store.tags == set()
        assert not connection.in_atomic_block
        Article.objects.create(title="a")

    def test_a_receiver_of_post_save_that_raises_leaves_the_row_saved(self, store: Recorder) -> None:
        def fail(**kwargs: Any) -> None:
            assert not connection.in_atomic_block
            raise LookupError

        post_save.connect(fail, sender=Article)
        try:
            with pytest.raises(LookupError):
                Article.objects.create(title="a")
        finally:
            post_save.disconnect(fail, sender=Article)
        assert Article.objects.count() == 1
        assert tags("library.article:*") <= store.tags

    def test_a_receiver_of_pre_save_is_outside_of_the_transaction(self) -> None:
        seen = []

        def look(**kwargs: Any) -> None:
            seen.append(connection.in_atomic_block)

        pre_save.connect(look, sender=Article)
        try:
            Article.objects.create(title="a")
        finally:
            pre_save.disconnect(look, sender=Article)
        assert seen == [False]

    def test_a_receiver_of_post_save_sees_the_stamp_drawn(self, store: Recorder) -> None:
        seen = []

        def look(**kwargs: Any) -> None:
            seen.append(store.tags)

        post_save.connect(look, sender=Article)
        try:
            Article.objects.create(title="a")
        finally:
            post_save.disconnect(look, sender=Article)
        assert seen[0] >= tags("library.article:*")

    def test_a_model_that_is_not_registered_costs_nothing(self, store: Recorder) -> None:
        with CaptureQueriesContext(connection) as captured:
            Unregistered.objects.create(text="a")

        assert queries(captured) == ["INSERT library_unregistered"]
        assert store.stamped == []


class TestInATransaction:
    def test_a_row_costs_one_insert_and_its_second_save_none(self, store: Recorder) -> None:
        article = Article.objects.create(title="a")
        store.stamped.clear()
        with transaction.atomic():
            with CaptureQueriesContext(connection) as captured:
                article.save()
                article.save()
            assert store.stamped == []

        assert queries(captured) == [OUTBOX, "UPDATE library_article", "UPDATE library_article"]
        assert len(store.stamped) == 1
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_a_second_row_costs_one_insert_of_its_own_name(self, store: Recorder) -> None:
        with transaction.atomic():
            Article.objects.create(title="a")
            before = Invalidation.objects.count()
            Article.objects.create(title="b")
            assert Invalidation.objects.count() == before + 1
        assert len(store.stamped) == 1

    def test_rolled_back_nothing_happened(self, store: Recorder) -> None:
        with contextlib.suppress(LookupError), transaction.atomic():
            Article.objects.create(title="a")
            raise LookupError

        assert store.stamped == []
        assert not Invalidation.objects.exists()

    def test_an_error_leaves_the_transaction_as_django_would(self) -> None:
        with transaction.atomic():
            with pytest.raises(IntegrityError):
                Article(title=None).save()  # type: ignore[misc]
            assert connection.needs_rollback
            connection.set_rollback(True)


class TestWaysToSave:
    @pytest.fixture
    def article(self, store: Recorder) -> Article:
        article = Article.objects.create(title="a")
        store.stamped.clear()
        return article

    @pytest.mark.parametrize(
        "given",
        [{}, {"force_update": True}, {"update_fields": ["title"]}, {"using": "default"}],
        ids=["plain", "force_update", "update_fields", "using"],
    )
    def test_all_are_seen(self, article: Article, store: Recorder, given: dict[str, Any]) -> None:
        article.title = "b"
        article.save(**given)
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_of_no_field_is_none(self, article: Article, store: Recorder) -> None:
        article.save(update_fields=[])
        assert store.tags == set()

    def test_force_insert_of_a_given_key(self, store: Recorder) -> None:
        Article(pk=77, title="a").save(force_insert=True)
        assert store.tags == tags("library.article:77", "library.article:*")

    def test_get_or_create_and_update_or_create(self, store: Recorder) -> None:
        article, _ = Article.objects.get_or_create(title="x")
        assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
        Article.objects.get_or_create(title="x")
        assert store.taken() == set()
        Article.objects.update_or_create(title="x", defaults={"body": "y"})
        assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")

    def test_with_an_expression(self, article: Article, store: Recorder) -> None:
        article.views = F("views") + 1  # type: ignore[assignment]
        article.save()
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_a_proxy_is_its_concrete_model(self, article: Article, store: Recorder) -> None:
        FeaturedArticle.objects.get(pk=article.pk).save()
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_deferred_fields(self, article: Article, store: Recorder) -> None:
        Article.objects.only("title").get(pk=article.pk).save()
        assert store.tags == tags(f"library.article:{article.pk}", "library.article:*")

    def test_a_fixture(self, store: Recorder, tmp_path: Any) -> None:
        path = tmp_path / "articles.json"
        fields = {"title": "a", "topics": [], "readers": [], "similar": []}
        path.write_text(json.dumps([{"model": "library.article", "pk": 5, "fields": fields}]))
        call_command("loaddata", str(path), stdout=io.StringIO())
        assert store.tags == tags("library.article:5", "library.article:*")

    @pytest.mark.asyncio
    async def test_async(self, store: Recorder) -> None:
        article = await Article.objects.acreate(title="a")
        assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
        await article.asave()
        assert store.taken() == tags(f"library.article:{article.pk}", "library.article:*")
        key = article.pk
        await article.adelete()
        assert store.taken() == tags(f"library.article:{key}", "library.article:*")

    def test_keys_of_other_kinds(self, store: Recorder) -> None:
        one = ByUuid.objects.create(text="a")
        assert store.taken() == tags(f"library.byuuid:{one.pk}", "library.byuuid:*")
        one.pk = one.pk.hex
        one.save()
        one.refresh_from_db()
        assert store.taken() == tags(f"library.byuuid:{one.pk}", "library.byuuid:*")
        ByName(name="x y", text="a").save()
        assert store.taken() == tags("library.byname:x y", "library.byname:*")

    def test_a_key_of_two_columns(self, store: Recorder) -> None:
        seat = Seat.objects.create(row=1, number=2, text="a")
        assert store.taken() == tags("library.seat:1,2", "library.seat:*")
        seat.save()
        assert store.taken() == tags("library.seat:1,2", "library.seat:*")
        assert source_of(seat).label == "library.seat:1,2"
        seat.delete()
        assert store.taken() == tags("library.seat:1,2", "library.seat:*")

    def test_a_key_too_long_for_a_tag_is_a_digest(self, store: Recorder) -> None:
        ByName(name="x" * 400, text="a").save()
        (name,) = {tag.name for tag in store.tags} - {"library.byname:*"}
        assert len(name) == len("library.byname:") + 32

    def test_select_on_save_and_order_with_respect_to(self, store: Recorder) -> None:
        careful = Careful.objects.create(text="a")
        careful.save()
        assert store.taken() == tags(f"library.careful:{careful.pk}", "library.careful:*")
        chapter = Chapter.objects.create(book=Book.objects.create(title="b"))
        assert store.taken() == tags(f"library.chapter:{chapter.pk}", "library.chapter:*")

    def test_what_reads_first_in_autocommit_is_preceded_by_a_write(self) -> None:
        with CaptureQueriesContext(connection) as captured:
            Page.objects.create()
        assert queries(captured)[:3] == ["BEGIN", "UPDATE library_page", "SELECT"]
        book = Book.objects.create(title="b")
        with CaptureQueriesContext(connection) as captured:
            Chapter.objects.create(book=book)
        assert queries(captured)[:3] == ["BEGIN", "UPDATE library_chapter", "SELECT"]

    def test_a_signal_sent_by_hand_is_seen(self, store: Recorder) -> None:
        Article.objects.bulk_create([Article(pk=8, title="a")])
        assert store.taken() == set()
        post_save.send(Article, instance=Article.objects.get(pk=8), created=True, using="default", raw=False)
        assert store.taken() == tags("library.article:8", "library.article:*")


class TestTenants:
    @pytest.fixture
    def orgs(self) -> tuple[Org, Org]:
        return Org.objects.create(name="a"), Org.objects.create(name="b")

    def test_by_a_path(self, store: Recorder, orgs: tuple[Org, Org]) -> None:
        note = Note.objects.create(team=Team.objects.create(org=orgs[0]), text="a")
        assert store.tags == tags(f"library.note:{note.pk}", "library.note:*", tenant=orgs[0].pk)

    def test_that_are_null_are_everybody(self, store: Recorder) -> None:
        note = Note.objects.create(text="a")
        other = Note.objects.create(text="a", team=Team.objects.create())
        assert store.tags == tags(f"library.note:{note.pk}", f"library.note:{other.pk}", "library.note:*")

    def test_a_row_that_moves_ends_the_answers_of_both(self, store: Recorder, orgs: tuple[Org, Org]) -> None:
        ticket = Ticket.objects.create(org=orgs[0], queue="x")
        store.stamped.clear()
        ticket.org, ticket.queue = orgs[1], "y"
        ticket.save()
        names = f"library.ticket:{ticket.pk}", "library.ticket:*"
        assert store.tags == tags(*names, "queue:x", tenant=orgs[0].pk) | tags(*names, "queue:y", tenant=orgs[1].pk)

    def test_a_row_that_moved_behind_the_signals_ends_those_of_where_it_was(
        self, store: Recorder, orgs: tuple[Org, Org]
    ) -> None:
        ticket = Ticket.objects.create(org=orgs[0])
        Ticket.objects.update(org=orgs[1])
        store.stamped.clear()
        ticket.save()
        assert {tag.tenant for tag in store.tags} == {tag.tenant for org in orgs for tag in tags("", tenant=org.pk)}

    def test_the_row_is_read_after_a_write_and_before_its_own(self, orgs: tuple[Org, Org]) -> None:
        ticket = Ticket.objects.create(org=orgs[0])
        with CaptureQueriesContext(connection) as captured:
            ticket.save()
        lock, change = "UPDATE library_ticket", "UPDATE library_ticket"
        assert queries(captured) == ["BEGIN", lock, "SELECT", change, OUTBOX, "COMMIT", MARKED]

    def test_a_new_row_is_not_looked_for(self, orgs: tuple[Org, Org]) -> None:
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            Ticket.objects.create(org=orgs[0])
        assert queries(captured) == ["INSERT library_ticket", OUTBOX]

    def test_a_callable_that_fails_ends_everybodys(self, store: Recorder, registered: Any) -> None:
        def fail(comment: Any) -> Any:
            raise LookupError("no such tenant")

        registered(Comment, tenant=fail, tags=fail)
        comment = Comment.objects.create(article=Article.objects.create(title="a"), text="a")
        assert tags(f"library.comment:{comment.pk}", "library.comment:*") <= store.tags

    def test_a_callable_that_says_odd_things_ends_everybodys(self, store: Recorder, registered: Any) -> None:
        registered(Comment, tenant=lambda comment: 1.5, tags=lambda comment: "x")
        comment = Comment.objects.create(article=Article.objects.create(title="a"), text="a")
        assert tags(f"library.comment:{comment.pk}", "library.comment:*") <= store.tags

    def test_of_a_single_tenant_site_are_everybody(self, store: Recorder, orgs: tuple[Org, Org], settings: Any) -> None:
        settings.AICACHE = {"SINGLE_TENANT": True}
        ticket = Ticket.objects.create(org=orgs[0])
        assert store.tags == tags(f"library.ticket:{ticket.pk}", "library.ticket:*", "queue:first")


class TestSkippingWhatIsUnchanged:
    def test_a_save_that_changes_no_column_ends_nothing(self, store: Recorder) -> None:
        memo = Memo.objects.create(owner="a", text="a")
        names = f"library.memo:{memo.pk}", "library.memo:*"
        assert store.taken() == tags(*names, tenant="a")
        memo.save()
        assert store.taken() == set()
        memo.text = "b"
        memo.save()
        assert store.taken() == tags(*names, tenant="a")
        memo.owner = "b"
        memo.save()
        assert store.taken() == tags(*names, tenant="a") | tags(*names, tenant="b")

    def test_a_column_that_was_not_saved_is_not_a_change(self, store: Recorder) -> None:
        memo = Memo.objects.create(owner="a", text="a")
        store.stamped.clear()
        memo.text = "b"
        memo.save(update_fields=["owner"])
        assert store.tags == set()

    def test_a_row_under_a_key_that_was_free_is_a_change(self, store: Recorder) -> None:
        Memo(pk=9, owner="a", text="a").save()
        assert store.tags == tags("library.memo:9", "library.memo:*", tenant="a")


class TestInheritance:
    def test_an_heir_of_a_registered_abstract_model(self, store: Recorder) -> None:
        event = Event.objects.create(name="a")
        assert store.tags == tags(f"library.event:{event.pk}", "library.event:*", "dates")

    def test_a_heir_is_saved(self, store: Recorder) -> None:
        restaurant = Restaurant.objects.create(name="a")
        assert store.taken() == tags(f"library.restaurant:{restaurant.pk}", "library.restaurant:*")
        restaurant.save()
        assert store.taken() == tags(f"library.restaurant:{restaurant.pk}", "library.restaurant:*")

    def test_a_parent_that_is_not_registered_is_saved(self, store: Recorder) -> None:
        restaurant = Restaurant.objects.create(name="a")
        store.stamped.clear()
        Place.objects.get(pk=restaurant.pk).save()
        assert store.taken() == tags(f"library.restaurant:{restaurant.pk}", "library.restaurant:*")
        other = Place.objects.create(name="b")
        other.save()
        assert store.taken() == set()

    def test_both_are_registered(self, store: Recorder) -> None:
        one, two = Org.objects.create(name="a"), Org.objects.create(name="b")
        contract = Contract.objects.create(org=one, title="a")
        names = [f"library.{model}:{key}" for model in ("contract", "document") for key in (contract.pk, "*")]
        assert store.taken() == tags(*names, tenant=one.pk)
        contract.save()
        assert store.taken() == tags(*names, tenant=one.pk)
        document = Document.objects.get(pk=contract.pk)
        document.org = two
        document.save()
        assert store.taken() == tags(*names, tenant=one.pk) | tags(*names, tenant=two.pk)
        contract.save()
        assert store.taken() == tags(*names, tenant=one.pk) | tags(*names, tenant=two.pk)

    def test_a_new_parent_that_is_not_registered_costs_nothing(self) -> None:
        with CaptureQueriesContext(connection) as captured:
            Place.objects.create(name="a")
        assert queries(captured) == ["INSERT library_place"]

    def test_a_parent_with_a_key_of_its_own(self, store: Recorder) -> None:
        other = Audio.objects.create(audio_id=500_001)
        book = AudioBook.objects.create(title="a", voice="b", audio_id=500_000)
        assert book.pk != book.audio_id
        assert store.taken() == tags(f"library.audiobook:{book.pk}", "library.audiobook:*")
        Audio.objects.get(pk=book.audio_id).save()
        assert store.taken() == tags(f"library.audiobook:{book.pk}", "library.audiobook:*")
        Book.objects.get(pk=book.pk).save()
        assert store.taken() == tags(f"library.audiobook:{book.pk}", "library.audiobook:*")
        other.save()
        assert store.taken() == set()


def test_a_comment_is_not_its_article(store: Recorder) -> None:
    article = Article.objects.create(title="a")
    store.stamped.clear()
    comment = Comment.objects.create(article=article, text="a")
    assert store.tags == tags(f"library.comment:{comment.pk}", "library.comment:*")
