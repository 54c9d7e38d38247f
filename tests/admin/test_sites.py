"""The pages work in whatever admin they are put, and lead to none but its own."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from aicache.models import CacheEntry, IdempotencyKey, InvalidationTag
from tests.admin import backstage
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, pinned
from tests.admin.pages import hidden
from tests.answers import index, keep

pytestmark = [
    pytest.mark.usefixtures("aicache_isolated"),
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("tests.admin.backstage"),
]

ENTRIES, KEYS, TAGS = (f"/backstage/aicache/{model}/" for model in ("cacheentry", "idempotencykey", "invalidationtag"))


@pytest.fixture
def boss(staff: Staff) -> Client:
    models = ("cacheentry", "idempotencykey", "invalidation", "invalidationtag")
    return staff(*(f"view_{model}" for model in models), "purge_entry", "purge_tag", "forget_key")


def confirm(client: Client, page: Any, address: str) -> Any:
    assert page.status_code == 200
    assert "/admin/" not in page.content.decode().replace("/static/admin/", "").replace("static/admin/", "")
    return client.post(address, hidden(page))


def test_purging_answers_and_tags_and_forgetting_keys_stay_in_an_admin_of_another_name(boss: Client) -> None:
    keep(1, "prices")
    index()
    tag, entry, key = (
        InvalidationTag.objects.get(tenant="acme"),
        kept(None, "prices"),
        pinned("order-1", message("Yes.")),
    )
    for listed, row, verb in ((TAGS, tag, "purge"), (ENTRIES, entry, "purge"), (KEYS, key, "forget")):
        page = boss.get(f"{listed}{row.pk}/change/").content.decode()
        assert f'href="{listed}{verb}/?id={row.pk}"' in page
        assert boss.get(listed).status_code == 200
        assert f'action="{listed}{verb}/?id={row.pk}"' in boss.get(f"{listed}{verb}/", {"id": row.pk}).content.decode()
        done = confirm(boss, boss.get(f"{listed}{verb}/", {"id": row.pk}), f"{listed}{verb}/")
        assert (done.status_code, done["Location"]) == (302, listed)
        assert boss.get(f"{ENTRIES}purge/")["Location"] == ENTRIES
    assert f"{TAGS}{tag.pk}/change/" not in boss.get(f"{ENTRIES}").content.decode()
    assert not CacheEntry.objects.filter(pk=entry.pk).exists()
    assert not IdempotencyKey.objects.exists()


def test_an_entry_leads_to_no_page_that_the_admin_does_not_have(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(1, "prices")
    index()
    entry = kept(None, "prices")
    assert f'href="{TAGS}' in boss.get(f"{ENTRIES}{entry.pk}/change/").content.decode()
    monkeypatch.delitem(backstage.site._registry, InvalidationTag)
    assert '<th scope="row">prices</th>' in boss.get(f"{ENTRIES}{entry.pk}/change/").content.decode()
