"""What hangs on a tag, what it costs that it dies, and who or what let it die."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aicache import GLOBAL, invalidate, tasks
from aicache.admin import losses as module
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.durable import get_writer
from aicache.models import CacheEntry, Invalidation, InvalidationTag
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.kept import kept
from tests.admin.limits import limited_to
from tests.admin.pages import ENTRIES, PURGE, PURGE_ENTRIES, TAGS, WRONG, hidden, rows, text
from tests.answers import ask, index, keep, without_redis
from tests.freshness.library.models import Article

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

RIGHTS = ("view_invalidation", "view_invalidationtag", "purge_tag", "view_cacheentry")


@pytest.fixture
def anna(staff: Staff) -> Client:
    return staff(*RIGHTS)


def tag(name: str = "prices", tenant: Any = "acme") -> InvalidationTag:
    """Listed, whether or not an answer hangs on it."""
    owner = tenant_digest(tenant)
    row, _ = InvalidationTag.objects.get_or_create(
        digest=Tag(name, owner).digest,
        defaults={
            "tag": name,
            "tenant": tenant if isinstance(tenant, str) else "",
            "everybody": tenant is GLOBAL,
            "seen_at": timezone.now(),
        },
    )
    return row


def asked(client: Client, *tags: InvalidationTag) -> str:
    """What is said before these are purged."""
    return text(client.get(PURGE, {"id": [row.pk for row in tags]}))


def page(client: Client, row: InvalidationTag) -> Any:
    return client.get(f"{TAGS}{row.pk}/change/")


@contextmanager
def without_copies() -> Iterator[None]:
    with override_settings(AICACHE={"NAMESPACE": get_settings().namespace, "DURABLE": False}):
        yield


class TestBeforeAPurge:
    def test_it_says_what_the_answers_cost_to_make(self, anna: Client) -> None:
        kept(None, "prices", usd="1.25")
        kept(None, "prices", "rates", usd="0.50")
        kept(None, "prices", usd=None)
        kept(None, "prices", tenant="globex", usd="100")
        kept(None, "rates", usd="10")
        kept(None, "pricesless", usd="1000")

        assert "prices acme 0 $1.75 3 copies, 1 of unknown price" in asked(anna, tag())

    def test_an_answer_without_a_copy_is_told(self, anna: Client) -> None:
        keep(2, "prices")
        assert get_writer().flush()
        CacheEntry.objects.all()[0].delete()
        CacheEntry.objects.update(cost_usd="0.25")
        assert "prices acme 2 $0.25 1 copy, 1 answer without a copy" in asked(anna, tag())

    def test_one_without_a_price_is_not_free(self, anna: Client) -> None:
        kept(None, "prices", usd=None)
        assert "prices acme 0 – 1 copy, 1 of unknown price" in asked(anna, tag())
        assert "– 0 copies" in asked(anna, tag("rates"))

    def test_what_hangs_on_two_costs_once_in_all(self, anna: Client) -> None:
        kept(None, "prices", "rates", usd="1.00")
        kept(None, "rates", usd="2.00")
        told = asked(anna, tag(), tag("rates"))
        assert "prices acme 0 $1.00 1 copy" in told
        assert "rates acme 0 $3.00 2 copies" in told
        assert "counts twice 0 $3.00 2 copies" in told

    def test_the_dead_cost_nothing_more(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00", life=-1)
        kept(None, "prices", usd="2.00", digest="of another namespace")
        kept(None, "prices", usd="4.00")
        invalidate("prices", tenant="acme")
        kept(None, "prices", usd="8.00")
        assert "$8.00 1 copy" in asked(anna, tag())
        invalidate("prices", tenant=GLOBAL)
        assert "– 0 copies" in asked(anna, tag())

    def test_a_tenants_own_death_is_known_to_everybodys_tag(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        kept(None, "prices", usd="2.00", tenant="globex")
        invalidate("prices", tenant="acme")
        assert "everybody's 0 $2.00 1 copy" in asked(anna, tag(tenant=GLOBAL))

    def test_what_dies_with_each_row_of_a_label_is_dead(self, anna: Client) -> None:
        kept(None, "library.article", usd="1.00")
        kept(None, usd="2.00", tags=["library.article", "library.article:7"])
        Article.objects.create(title="a")
        assert "$2.00 1 copy" in asked(anna, tag("library.article"))

    def test_of_too_many_owners_the_deaths_are_not_all_asked_for(
        self, anna: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "AT_ONCE", 1)
        kept(None, "prices", usd="1.00")
        invalidate("prices", tenant="acme")
        assert "everybody's 0 $1.00 1 copy" in asked(anna, tag(tenant=GLOBAL))
        assert "acme 0 – 0 copies" in asked(anna, tag())

    def test_everybodys_tag_costs_what_all_tenants_paid(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        kept(None, "prices", usd="2.00", tenant="globex")
        kept(None, "prices", usd="4.00", tenant=GLOBAL)
        assert "everybody's 0 $7.00 3 copies" in asked(anna, tag(tenant=GLOBAL))

    def test_one_whose_owner_is_known_by_its_digest_alone_too(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        kept(None, "prices", usd="2.00", tenant="a stranger")
        row = tag(tenant="a stranger")
        InvalidationTag.objects.update(tenant="")
        assert "unknown 0 $2.00 1 copy" in asked(anna, row)

    @pytest.mark.parametrize("name", ['a "quoted" one', "größe", "100%s", "{}", "\\", "a,b"])
    def test_whatever_the_name(self, anna: Client, name: str) -> None:
        kept(None, name, usd="1.00")
        assert "$1.00 1 copy" in asked(anna, tag(name))

    def test_a_label_costs_what_hangs_on_it_by_its_rows_too(self, anna: Client) -> None:
        kept(None, "library.article", usd="1.00")
        kept(None, "library.article:1", usd="2.00", tags=["library.article", "library.article:1"])
        assert "$3.00 2 copies" in asked(anna, tag("library.article"))

    def test_of_too_many_the_least_is_told(self, anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST", 2)
        for _ in range(3):
            kept(None, "prices", usd="1.00")
        assert "at least $2.00 at least 2 copies" in asked(anna, tag())

    def test_without_redis_the_copies_tell_it(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        row = tag()
        with without_redis():
            told = asked(anna, row)
        assert "prices acme ? $1.00 1 copy" in told
        assert "Redis is out of reach" in told

    def test_where_no_copies_are_kept_it_says_so(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        row = tag()
        with without_copies():
            told = asked(anna, row)
        assert "What they cost to make is not known" in told
        assert "$" not in told

    def test_many_tags_cost_as_many_queries_as_one(self, anna: Client) -> None:
        def queries(*tags: InvalidationTag) -> int:
            with CaptureQueriesContext(connection) as captured:
                assert "$" in asked(anna, *tags)
            return len(captured)

        kept(None, "0", usd="1.00")
        many = [tag(str(number)) for number in range(20)]
        queries(many[0])
        few = queries(many[0])
        for row in many:
            kept(None, row.tag, usd="1.00")
        assert queries(*many) == few

    def test_whoever_is_limited_is_told_of_their_tenants_alone(self, anna: Client) -> None:
        kept(None, "prices", usd="1.00")
        kept(None, "prices", usd="2.00", tenant="globex")
        tags = tag(), tag(tenant="globex"), tag(tenant=GLOBAL)
        with limited_to("acme"):
            told = asked(anna, *tags)
            forged = anna.post(PURGE, {"tag": "prices", "tenant": "globex"})
        assert "$1.00 1 copy" in told
        assert "globex" not in told
        assert "$" not in text(forged)


class TestATagsPage:
    def test_it_leads_to_the_answers_that_hang_on_it(self, anna: Client) -> None:
        here = kept(None, "prices", usd="1.00")
        kept(None, "prices", tenant="globex")
        kept(None, "rates")
        kept(None, "prices", life=-1)

        shown = page(anna, tag())

        assert "1 copy ; cost to make: $1.00" in text(shown)
        address = f"{ENTRIES}?tag=prices&life=on&tenant=acme"
        assert f'href="{html.escape(address)}"' in shown.content.decode()
        assert [row[0] for row in rows(anna.get(address))] == [f"{here.key[:12]}"]

    def test_everybodys_leads_to_those_of_all(self, anna: Client) -> None:
        kept(None, "prices")
        kept(None, "prices", tenant="globex")
        assert f'href="{ENTRIES}?tag=prices&amp;life=on"' in page(anna, tag(tenant=GLOBAL)).content.decode()
        assert len(rows(anna.get(f"{ENTRIES}?tag=prices&life=on"))) == 2
        with limited_to("acme", GLOBAL):
            assert len(rows(anna.get(f"{ENTRIES}?tag=prices&life=on"))) == 1

    def test_whoever_may_not_look_at_answers_is_led_nowhere(self, viewer: Client) -> None:
        kept(None, "prices", usd="1.00")
        shown = page(viewer, tag())
        assert "1 copy; cost to make: $1.00" in text(shown)
        assert ENTRIES not in shown.content.decode()

    def test_it_says_what_cannot_be_known(self, anna: Client) -> None:
        kept(None, "prices")
        row = tag()
        with without_redis():
            assert "Redis is out of reach: how many answers it holds" in text(page(anna, row))
        with without_copies():
            assert "The answers cannot be listed" in text(page(anna, row))

    def test_another_tenants_is_not_there(self, anna: Client) -> None:
        row = tag(tenant="globex")
        with limited_to("acme"):
            assert page(anna, row).status_code == 302


class TestOfWhomItDied:
    def test_a_user_who_purged_it_is_named(self, anna: Client) -> None:
        keep(1, "prices")
        anna.post(PURGE, hidden(anna.get(PURGE, {"id": tag().pk})))

        name = f"with {', '.join(RIGHTS)}"
        assert Invalidation.objects.get().cause == f"purged by {name}"
        assert f"purged by {name}" in text(page(anna, tag()))
        assert rows(anna.get(TAGS))[0][4].endswith(f"purged by {name}")

    @pytest.mark.parametrize(("address", "how"), [(PURGE_ENTRIES, "purged by "), (WRONG, "marked as wrong by ")])
    def test_a_user_who_ended_a_single_answer_too(self, staff: Staff, address: str, how: str) -> None:
        client = staff("view_cacheentry", "purge_entry", "mark_wrong")
        client.post(address, hidden(client.get(address, {"id": kept().pk})))
        assert Invalidation.objects.get().cause.startswith(how + "with view_cacheentry")

    def test_the_command_and_the_task_say_what_they_are(self) -> None:
        call_command("purge_tag", "prices", "--tenant=acme", stdout=StringIO())
        tasks.purge_tag("rates", tenant="acme")
        found = Invalidation.objects.order_by("pk").values_list("tag", "cause")
        assert list(found) == [("prices", "manage.py purge_tag"), ("rates", "task purge_tag")]

    def test_the_newest_one_counts_in_whatever_database_it_is(self, viewer: Client) -> None:
        row = tag()
        for using, cause, age in (("default", "the old", 5), ("other", "the new", 1), ("default", "the oldest", 9)):
            at = timezone.now() - timedelta(minutes=age)
            Invalidation.objects.using(using).create(digest=row.digest, tag="prices", cause=cause, made_at=at)
        assert "the new" in text(page(viewer, row))

    def test_a_name_that_is_markup_is_text(self, viewer: Client) -> None:
        row = tag()
        Invalidation.objects.create(digest=row.digest, tag="prices", cause="purged by <b>", made_at=timezone.now())
        assert "purged by &lt;b&gt;" in viewer.get(TAGS).content.decode()


def test_the_list_of_tags_that_are_in_use_is_as_it_was(viewer: Client) -> None:
    assert ask("?", "prices") == "miss"
    index()
    assert [row[:4] for row in rows(viewer.get(TAGS))] == [
        ["prices", "everybody's", "1", "0"],
        ["prices", "acme", "1", "0"],
    ]
