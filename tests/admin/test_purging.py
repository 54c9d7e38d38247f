from __future__ import annotations

import html
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.utils import timezone

from aicache.admin.confirmation import MOST
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.models import Invalidation, InvalidationTag
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.pages import PURGE, TAGS, hidden, text
from tests.answers import ask, index, keep, without_redis

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

OF_ACME = {"tag": "prices", "whose": "tenant", "tenant": "acme"}


def listed(**which: Any) -> list[str]:
    index()
    return [str(row.pk) for row in InvalidationTag.objects.filter(**which)]


def confirm(client: Client, page: Any) -> Any:
    return client.post(PURGE, hidden(page), follow=True)


def select(client: Client, ids: list[str], **more: str) -> Any:
    return client.post(TAGS, {"action": "purge", "_selected_action": ids, **more})


class TestChosenTags:
    def test_what_would_die_is_shown_before_it_does(self, purger: Client) -> None:
        keep(2, "prices")
        keep(1, "refunds")

        page = select(purger, listed(tenant="acme"))

        told = text(page)
        assert "Purge these tags?" in told
        assert "prices acme 2" in told
        assert "refunds acme 1" in told
        assert "3 " in told.split("counts twice")[1]
        assert not Invalidation.objects.exists()
        assert ask("0 of ('prices',)", "prices") == "hit"

    def test_it_dies_when_that_is_confirmed(self, purger: Client) -> None:
        keep(1, "prices")
        keep(1, "refunds")
        keep(1, "prices", tenant="globex")

        page = confirm(purger, select(purger, listed(tenant="acme")))

        assert "2 tags were purged: no answer that hung on them is served any more." in text(page)
        assert ask("0 of ('prices',)", "prices") == "miss"
        assert ask("0 of ('refunds',)", "refunds") == "miss"
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "hit"

    def test_everybodys_tag_ends_every_tenants_answers(self, purger: Client) -> None:
        keep(1, "prices")
        keep(1, "prices", tenant="globex")

        confirm(purger, select(purger, listed(everybody=True)))

        assert ask("0 of ('prices',)", "prices") == "miss"
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "miss"
        assert Invalidation.objects.get().everybody

    def test_the_confirmed_is_written_down_as_the_users_deed(self, purger: Client) -> None:
        keep(1, "prices")
        (pk,) = listed(tenant="acme")

        confirm(purger, select(purger, [pk]))

        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.object_repr, entry.is_change()) == (pk, "prices", True)
        assert entry.change_message == "Purged (acme)."
        assert "Purged (acme)." in text(purger.get(f"{TAGS}{pk}/history/"))

    def test_too_many_at_once_are_refused(self, purger: Client) -> None:
        for number in range(MOST // 2 + 1):
            keep(1, str(number))
        ids = listed()

        response = select(purger, ids[:1], select_across="1")

        assert response.status_code == 302
        assert f"more than {MOST} tags at once" in text(purger.get(TAGS))

    @pytest.mark.parametrize("tenant", ["t" * 300, "a stranger"])
    def test_whose_tenant_is_not_known_by_name_dies_all_the_same(self, purger: Client, tenant: str) -> None:
        keep(1, "prices", tenant=tenant)
        keep(1, "prices")
        listed()
        InvalidationTag.objects.filter(tenant="a stranger").update(tenant="")
        ids = [str(row.pk) for row in InvalidationTag.objects.filter(everybody=False).exclude(tenant="acme")]

        confirm(purger, select(purger, ids))

        assert ask("0 of ('prices',)", "prices", tenant=tenant) == "miss"
        assert ask("0 of ('prices',)", "prices") == "hit"
        assert Invalidation.objects.get().applied_at is not None

    def test_the_page_of_a_tag_leads_there_too(self, purger: Client) -> None:
        keep(1, "prices")
        (pk,) = listed(tenant="acme")
        assert f'href="{PURGE}?id={pk}"' in purger.get(f"{TAGS}{pk}/change/").content.decode()

        page = purger.get(PURGE, {"id": pk})

        assert "prices acme 1" in text(page)
        assert not Invalidation.objects.exists()
        confirm(purger, page)
        assert ask("0 of ('prices',)", "prices") == "miss"

    def test_a_tag_of_another_database_too(self, purger: Client) -> None:
        keep(1, "prices")
        digest = Tag("prices", tenant_digest("acme")).digest
        row = InvalidationTag(pk=77, digest=digest, tag="prices", tenant="acme", seen_at=timezone.now())
        row.save(using="other")

        page = purger.post(f"{TAGS}?db=other", {"action": "purge", "_selected_action": ["77"]})

        assert "prices acme 1" in text(page)
        confirm(purger, page)
        assert ask("0 of ('prices',)", "prices") == "miss"

    @pytest.mark.parametrize("nonsense", ["x", "-1", "99", "9" * 18, "9" * 23, "9" * 5000, "²", "٩" * 19])
    def test_nothing_is_chosen_by_nonsense(self, purger: Client, nonsense: str) -> None:
        assert "Purge a tag" in text(purger.get(PURGE, {"id": nonsense, "db": "nowhere"}))
        assert "Purge a tag" in text(purger.post(PURGE, {"id": nonsense, "confirmed": "yes"}))


class TestAnyTag:
    def test_a_tenants_tag_is_shown_and_then_dies(self, purger: Client) -> None:
        keep(2, "prices")
        assert f'href="{PURGE}"' in purger.get(TAGS).content.decode()
        assert "Show what would die" in html.unescape(purger.get(PURGE).content.decode())

        page = purger.post(PURGE, OF_ACME)

        assert "Purge this tag?" in text(page)
        assert "prices acme 2" in text(page)
        assert not Invalidation.objects.exists()
        assert "1 tag was purged" in text(confirm(purger, page))
        assert ask("0 of ('prices',)", "prices") == "miss"
        assert LogEntry.objects.get().object_id is None  # it is not in the list

    def test_everybodys_tag_too(self, purger: Client) -> None:
        keep(1, "prices", tenant="globex")

        page = purger.post(PURGE, {"tag": "prices", "whose": "everybody", "tenant": "is ignored"})

        assert "prices everybody's 1" in text(page)
        confirm(purger, page)
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "miss"
        assert Invalidation.objects.get().everybody

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({}, "This field is required."),
            ({"tag": "é" * 101, "whose": "everybody"}, "At most 200 bytes; this has 202."),
            ({"tag": "prices", "whose": "tenant"}, "Name the tenant, or choose everybody's."),
            ({"tag": "prices", "whose": "nobody"}, "Select a valid choice."),
            ({"tag": "pri\0ces", "whose": "everybody"}, "Null characters are not allowed."),
        ],
    )
    def test_what_is_of_no_use_is_named(self, purger: Client, given: dict[str, str], said: str) -> None:
        page = purger.post(PURGE, {**given, "confirmed": "yes"})
        assert said in text(page)
        assert not Invalidation.objects.exists()

    @pytest.mark.parametrize(("tag", "tenant"), [(" pad ", "acme"), ("prices", " acme "), (" ", " ")])
    def test_spaces_are_part_of_a_name(self, purger: Client, tag: str, tenant: str) -> None:
        keep(1, tag, tenant=tenant)
        keep(1, "prices")

        page = purger.post(PURGE, {"tag": tag, "whose": "tenant", "tenant": tenant})
        assert "tag was purged" in text(confirm(purger, page))

        assert ask(f"0 of {(tag,)}", tag, tenant=tenant) == "miss"
        assert ask("0 of ('prices',)", "prices") == "hit"

    def test_a_site_with_one_tenant_is_not_asked_for_it(self, purger: Client) -> None:
        with override_settings(AICACHE={"NAMESPACE": get_settings().namespace, "SINGLE_TENANT": True}):
            assert ask("prices?", "prices", tenant=None) == "miss"
            assert "Tenant:" not in text(purger.get(PURGE))

            confirm(purger, purger.post(PURGE, {"tag": "prices"}))

            assert ask("prices?", "prices", tenant=None) == "miss"

    def test_a_tag_that_is_markup_is_text(self, purger: Client) -> None:
        page = purger.post(PURGE, {"tag": '"><b>', "whose": "tenant", "tenant": "<i>"})
        assert "<b>" not in page.content.decode()
        assert "<i>" not in page.content.decode()
        confirm(purger, page)
        assert Invalidation.objects.get().tag == '"><b>'


class TestWithoutRedis:
    def test_the_purge_is_written_and_said_to_be_pending(self, purger: Client) -> None:
        keep(1, "prices")

        with without_redis():
            page = purger.post(PURGE, OF_ACME)
            assert "cannot be counted" in text(page)
            done = confirm(purger, page)

        assert "The purge of 1 tag is written, and pending: Redis is out of reach." in text(done)
        assert Invalidation.objects.get().applied_at is None


class TestWhoMay:
    def test_the_right_to_look_is_no_right_to_purge(self, viewer: Client) -> None:
        keep(1, "prices")
        ids = listed(tenant="acme")

        assert f'href="{PURGE}' not in viewer.get(TAGS).content.decode()
        assert f'href="{PURGE}' not in viewer.get(f"{TAGS}{ids[0]}/change/").content.decode()
        assert 'value="purge"' not in viewer.get(TAGS).content.decode()
        select(viewer, ids, confirmed="yes")
        assert viewer.get(PURGE).status_code == 403
        assert viewer.post(PURGE, {**OF_ACME, "confirmed": "yes"}).status_code == 403
        assert viewer.post(PURGE, {"id": ids, "confirmed": "yes"}).status_code == 403
        assert not Invalidation.objects.exists()

    def test_who_is_not_signed_in_is_asked_to(self, transactional_db: None) -> None:
        response = Client().post(PURGE, {**OF_ACME, "confirmed": "yes"})
        assert response.status_code == 302
        assert "/login/" in response["Location"]

    def test_a_link_purges_nothing(self, purger: Client) -> None:
        keep(1, "prices")
        purger.get(PURGE, {**OF_ACME, "confirmed": "yes"})
        purger.get(PURGE, {"id": listed(tenant="acme"), "confirmed": "yes"})
        assert not Invalidation.objects.exists()

    def test_another_sites_form_purges_nothing(self, purger: Client) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = purger.cookies
        assert strict.post(PURGE, {**OF_ACME, "confirmed": "yes"}).status_code == 403
        assert not Invalidation.objects.exists()


def test_what_was_decided_stands_though_the_site_wraps_requests_in_transactions(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connection

    purger = staff("view_invalidationtag", "purge_tag")
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    page = confirm(purger, purger.post(PURGE, OF_ACME))
    assert "1 tag was purged" in text(page)
