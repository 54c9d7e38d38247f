"""An answer is made anew from its page, by the site's own client, and it is told how that ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings

import aicache
from aicache.conf import get_settings
from aicache.durable import get_writer
from aicache.models import CacheEntry
from aicache.testing import ClaudeServer, Reply
from tests.admin.conftest import Staff
from tests.admin.kept import kept, question
from tests.admin.limits import limited_to
from tests.admin.pages import ENTRIES, hidden, text
from tests.answers import AWAY
from tests.freshness.library.models import Article

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

REFRESH = f"{ENTRIES}refresh/"
ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "When are you open?"}],
}
RIGHTS = ("view_cacheentry", "view_content", "refresh_entry")
HERE = {"locale": "de", "tags": ["hours"], "vary": ["north"], "variant": 2}


class Shop:
    """A site: ``given`` is what its function was given."""

    def __init__(self, claude: ClaudeServer) -> None:
        self.claude = claude
        self.client = aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="key", max_retries=0))
        self.given: list[Any] = []

    def again(self, request: dict[str, Any], *, tenant: Any, entry: CacheEntry) -> None:
        self.given.append((request, tenant, entry.pk))
        self.client.messages.create(**request)

    def ask(self, tenant: str | None = "acme", **scope: Any) -> aicache.CallInfo:
        """What became of a visitor's call."""
        with aicache.scope(tenant=tenant, **{**HERE, **scope}) as calls:
            self.client.messages.create(**ASKED)
        assert calls.last is not None
        assert get_writer().flush()
        return calls.last


@pytest.fixture
def shop(claude: ClaudeServer) -> Iterator[Shop]:
    found = Shop(claude)
    with found.client, acting(found.again):
        yield found


def acting(act: Callable[..., Any] | None, **more: Any) -> Any:
    return override_settings(
        AICACHE={"NAMESPACE": get_settings().namespace, "STORE_REQUESTS": True, "REFRESH": act, **more}
    )


@pytest.fixture
def anna(staff: Staff) -> Client:
    return staff(*RIGHTS)


def entry() -> CacheEntry:
    return CacheEntry.objects.get()


def page(client: Client, row: CacheEntry) -> str:
    return client.get(f"{ENTRIES}{row.pk}/change/").content.decode()


def confirm(client: Client, row: CacheEntry) -> str:
    return text(client.post(REFRESH, {"id": row.pk, "confirmed": "yes"}, follow=True))


class TestIt:
    def test_is_shown_first_and_done_when_that_is_confirmed(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        CacheEntry.objects.update(cost_usd="0.25")
        before = entry()
        assert f'href="{REFRESH}?id={before.pk}"' in page(anna, before)

        asked = anna.get(REFRESH, {"id": before.pk})
        assert "Have this answer made anew?" in text(asked)
        assert "It cost $0.25 to make." in text(asked)
        assert not shop.given
        told = text(anna.post(REFRESH, hidden(asked), follow=True))

        assert "The call ended as miss (refresh): the new answer has taken this one's place." in told
        assert shop.given == [(ASKED, "acme", before.pk)]
        assert get_writer().flush()
        after = entry()
        assert (after.pk, after.key, after.circumstances) == (before.pk, before.key, HERE)
        assert after.created_at > before.created_at
        assert shop.ask().status == "hit"

    def test_is_written_down_as_the_users_deed_and_is_no_mark(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        confirm(anna, entry())
        entry_of_log = LogEntry.objects.get()
        assert entry_of_log.change_message.startswith("Asked again: The call ended as miss (refresh)")
        assert not entry_of_log.is_change()

    def test_asks_in_the_scope_of_its_sources_too(self, shop: Shop, anna: Client) -> None:
        article = Article.objects.create(title="a")
        shop.ask(sources=[article], policy="daily")
        assert "has taken this one's place" in confirm(anna, entry())
        assert entry().policy == "daily"
        article.refresh_from_db()
        assert shop.ask(sources=[article], policy="daily").status == "hit"

    def test_of_a_stream_too(self, shop: Shop, anna: Client) -> None:
        with aicache.scope(tenant="acme"):
            for _ in shop.client.messages.create(**ASKED, stream=True):
                pass
        assert get_writer().flush()
        assert "has taken this one's place" in confirm(anna, entry())

    def test_is_done_in_no_scope_of_whoever_asks_for_it(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        with aicache.scope(tenant="globex", tags=["others"]):
            assert "has taken this one's place" in confirm(anna, entry())

    def test_of_a_site_with_one_tenant(self, shop: Shop, anna: Client) -> None:
        with acting(shop.again, SINGLE_TENANT=True):
            shop.ask(tenant=None)
            assert "has taken this one's place" in confirm(anna, entry())


class TestHowItEnded:
    def test_another_question_is_told(self, shop: Shop, anna: Client) -> None:
        def other(request: dict[str, Any], *, tenant: Any, entry: Any) -> None:
            shop.client.messages.create(**{**request, "max_tokens": 51})

        shop.ask()
        row = entry()
        with acting(other):
            told = confirm(anna, row)
        assert "It was another question to the cache" in told
        assert shop.ask().status == "hit"

    def test_an_error_is_told_by_its_class_and_text(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        row = entry()
        shop.claude.script(Reply.error(529))
        told = confirm(anna, row)
        assert "The call ended as error" in told
        assert "OverloadedError" in told
        assert shop.ask().status == "hit"

    def test_an_error_before_the_call_too(self, shop: Shop, anna: Client) -> None:
        def broken(request: Any, *, tenant: Any, entry: Any) -> None:
            raise RuntimeError("<b>no key</b>" + "x" * 1000)

        shop.ask()
        with acting(broken):
            told = confirm(anna, entry())
        assert "No call was made: RuntimeError: <b>no key</b>xxx" in told
        assert "x" * 400 not in told

    def test_the_text_of_an_error_is_for_who_may_read_content_and_is_not_written_down(
        self, shop: Shop, anna: Client, staff: Staff
    ) -> None:
        """Clients quote in it what they were asked."""

        def quoting(request: Any, *, tenant: Any, entry: Any) -> None:
            raise RuntimeError(request["messages"][0]["content"])

        shop.ask()
        with acting(quoting):
            assert "No call was made: RuntimeError: When are you open?" in confirm(anna, entry())
            told = confirm(staff("view_cacheentry", "refresh_entry"), entry())
        assert "No call was made: RuntimeError" in told
        assert "When are you open?" not in told
        assert {log.change_message for log in LogEntry.objects.all()} == {"Asked again: No call was made: RuntimeError"}

    def test_that_nothing_was_asked(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        with acting(lambda request, *, tenant, entry: None):
            assert "made no call that goes through the cache" in confirm(anna, entry())

    def test_what_was_not_kept(self, shop: Shop, anna: Client) -> None:
        def passing(request: Any, *, tenant: Any, entry: Any) -> None:
            with aicache.scope(bypass=True):
                shop.client.messages.create(**request)

        shop.ask()
        with acting(passing):
            assert "The call ended as bypass (asked), and what it brought was not kept" in confirm(anna, entry())

    def test_without_redis(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        row = entry()
        with override_settings(CACHES=AWAY):
            assert "The call ended as degraded" in confirm(anna, row)


class TestItIsRefused:
    def refused(self, shop: Shop, client: Client, row: CacheEntry, why: str) -> None:
        assert why in text(client.get(REFRESH, {"id": row.pk}, follow=True))
        assert why in confirm(client, row)
        assert not shop.given

    def test_without_a_function_of_the_sites(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        row = entry()
        with acting(None):
            assert REFRESH not in page(anna, row)
            assert anna.post(REFRESH, {"id": row.pk, "confirmed": "yes"}).status_code == 403

    def test_without_a_request_that_is_kept(self, shop: Shop, anna: Client) -> None:
        row = kept()
        assert REFRESH not in page(anna, row)
        self.refused(shop, anna, row, "Its request is not kept")

    def test_what_was_no_message_for_claude(self, shop: Shop, anna: Client) -> None:
        with aicache.scope(tenant="acme"):
            aicache.remember({"zip": 1}, lambda: {"vector": [1]})
        assert get_writer().flush()
        assert REFRESH not in page(anna, entry())
        self.refused(shop, anna, entry(), "Its request is not kept, or was no message for Claude")

    def test_whose_owner_is_not_known(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        CacheEntry.objects.update(tenant="")
        self.refused(shop, anna, entry(), "Whose it is, is not known by name")

    def test_what_has_died(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        aicache.invalidate("hours", tenant="acme")
        assert REFRESH not in page(anna, entry())
        self.refused(shop, anna, entry(), "It does not stand any more.")

    def test_what_was_made_from_a_row_that_has_changed_unseen(self, shop: Shop, anna: Client) -> None:
        article = Article.objects.create(title="a")
        shop.ask(sources=[article])
        Article.objects.update(title="b")
        assert "A source of it has changed" in confirm(anna, entry())
        Article.objects.all().delete()
        assert not shop.given

    @pytest.mark.parametrize(
        "label", ["library.article:99", "library.article:x", "library.team:1", "gone.model:1", ":"]
    )
    def test_whose_source_is_not_to_be_found(self, shop: Shop, anna: Client, label: str) -> None:
        shop.ask()
        CacheEntry.objects.update(sources=[[label, "1"]])
        assert "A source of it has changed" in confirm(anna, entry())
        assert not shop.given

    def test_to_whoever_lacks_the_right(self, shop: Shop, staff: Staff) -> None:
        shop.ask()
        row = entry()
        looking, blind = staff("view_cacheentry", "purge_entry"), staff("refresh_entry")
        assert REFRESH not in page(looking, row)
        for client in (looking, blind):
            assert client.get(REFRESH, {"id": row.pk}).status_code == 403
            assert client.post(REFRESH, {"id": row.pk, "confirmed": "yes"}).status_code == 403
        assert not shop.given

    def test_to_whoever_does_not_see_its_tenant(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        row = entry()
        with acting(shop.again, STAFF_TENANTS=lambda request: ["globex"]):
            assert "is not there any more" in confirm(anna, row)
        assert not shop.given
        with acting(shop.again, STAFF_TENANTS=lambda request: ["acme"]):
            assert "has taken this one's place" in confirm(anna, row)

    def test_to_a_forged_post(self, shop: Shop, anna: Client) -> None:
        shop.ask()
        row = entry()
        forger = Client(enforce_csrf_checks=True)
        forger.cookies = anna.cookies
        assert forger.post(REFRESH, {"id": row.pk, "confirmed": "yes"}).status_code == 403
        assert anna.get(REFRESH, {"id": row.pk, "confirmed": "yes"}).status_code == 200
        assert not shop.given

    def test_of_several_at_once(self, shop: Shop, anna: Client) -> None:
        rows = [kept(request=question("?"), circumstances=HERE) for _ in range(2)]
        assert "is not there any more" in text(
            anna.post(REFRESH, {"id": [row.pk for row in rows], "confirmed": "yes"}, follow=True)
        )
        assert "is not there any more" in text(anna.post(REFRESH, {"id": "x", "confirmed": "yes"}, follow=True))
        assert not shop.given


class TestWhatItWasAskedWith:
    def test_is_shown_to_whoever_may_read(self, reader: Client, viewer: Client) -> None:
        row = kept(request=question("?"), circumstances=HERE)
        told = text(reader.get(f"{ENTRIES}{row.pk}/change/"))
        assert "Locale de vary north variant 2" in told

    def test_and_to_nobody_else(self, staff: Staff) -> None:
        row = kept(request=question("?"), circumstances=HERE)
        client = staff("view_cacheentry")
        assert "north" not in page(client, row)
        assert client.get(ENTRIES, {"circumstances__contains": "north"}).status_code == 400

    def test_is_kept_only_where_requests_are(self, shop: Shop) -> None:
        with acting(shop.again, STORE_REQUESTS=False):
            shop.ask()
        assert entry().circumstances is None

    def test_with_what_no_database_takes(self, shop: Shop) -> None:
        shop.ask(vary=["nul\0"])
        assert entry().circumstances == {**HERE, "vary": ["north", "nul\ufffd"][1:]}

    def test_limited_staff_sees_its_own(self, reader: Client) -> None:
        row = kept(request=question("?"), circumstances=HERE, tenant="globex")
        with limited_to("acme"):
            assert reader.get(f"{ENTRIES}{row.pk}/change/").status_code == 302
