from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from aicache import upkeep
from aicache.conf import get_settings
from aicache.invalidation import invalidate
from aicache.models import Invalidation, InvalidationTag
from tests.admin.conftest import Staff
from tests.admin.pages import INVALIDATIONS, TAGS, rows, text
from tests.answers import ask, index, keep, without_redis

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def test_each_tag_says_what_hangs_on_it_and_how_often_it_died(viewer: Client) -> None:
    keep(2, "prices")
    keep(3, "prices", tenant="globex")
    index()
    invalidate("prices", tenant="acme")
    invalidate("prices", tenant="acme")
    upkeep.reclaim()
    keep(1, "prices")

    shown = rows(viewer.get(TAGS))

    assert [row[:4] for row in shown] == [
        ["prices", "everybody's", "4", "0"],
        ["prices", "acme", "1", "2"],
        ["prices", "globex", "3", "0"],
    ]
    assert shown[0][4] == shown[2][4] == "-"
    assert shown[1][4] != "-"


def test_the_last_invalidation_leads_to_all_of_the_tags(viewer: Client) -> None:
    keep(1, "prices")
    index()
    invalidate("prices", tenant="acme")
    invalidate("refunds", tenant="acme")
    digest = Invalidation.objects.get(tag="prices").digest

    assert f'href="{INVALIDATIONS}?digest={digest}"' in viewer.get(TAGS).content.decode()
    assert [row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?digest={digest}"))] == ["prices"]


def test_without_redis_the_page_works_and_says_what_it_does_not_know(viewer: Client) -> None:
    keep(1, "prices")
    index()
    invalidate("prices", tenant="acme")

    with without_redis():
        shown = rows(viewer.get(TAGS))

    assert [row[2:4] for row in shown] == [["?", "0"], ["?", "1"]]


def test_a_generation_counts_what_was_compacted(viewer: Client) -> None:
    keep(1, "prices")
    index()
    invalidate("prices", tenant="acme")
    InvalidationTag.objects.filter(tenant="acme").update(compacted=5)
    assert [row[3] for row in rows(viewer.get(TAGS))] == ["0", "6"]


def test_tags_are_found_by_a_part_of_their_name_or_their_tenants(viewer: Client) -> None:
    keep(1, "prices")
    keep(1, "refunds", tenant="globex")
    index()
    assert {row[0] for row in rows(viewer.get(f"{TAGS}?q=fund"))} == {"refunds"}
    assert [row[:2] for row in rows(viewer.get(f"{TAGS}?q=acme"))] == [["prices", "acme"]]


def test_one_can_be_looked_at_and_nothing_changed(staff: Staff) -> None:
    keep(1, "prices")
    index()
    row = InvalidationTag.objects.get(tenant="acme")
    client = staff(*(f"{verb}_invalidationtag" for verb in ("view", "add", "change", "delete")))

    told = text(client.get(f"{TAGS}{row.pk}/change/"))

    assert "prices" in told
    assert client.get(f"{TAGS}add/").status_code == 403
    assert client.post(f"{TAGS}{row.pk}/change/", {"tag": "x"}).status_code == 403
    assert client.post(f"{TAGS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    row.refresh_from_db()
    assert row.tag == "prices"


def test_a_long_list_costs_as_many_queries_as_a_short_one(purger: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert purger.get(TAGS).status_code == 200
        return len(captured)

    keep(1, "0")
    index()
    queries()
    few = queries()
    for number in range(1, 20):
        keep(1, str(number))
        invalidate(str(number), tenant="acme")
    index()
    assert len(rows(purger.get(TAGS))) == 40
    assert queries() == few


def test_a_tag_whose_owner_is_not_known_by_name_still_says_what_hangs_on_it(viewer: Client) -> None:
    keep(1, "prices", tenant="t" * 300)
    keep(2, "refunds", tenant="a stranger")
    upkeep.index_tags()
    InvalidationTag.objects.filter(tag="refunds").update(tenant="")

    shown = rows(viewer.get(TAGS))

    assert [row[2] for row in shown] == ["1", "1", "2", "2"]
    assert shown[3][1] == "unknown"


def test_a_site_with_one_tenant_calls_its_tags_its_own(viewer: Client) -> None:
    with override_settings(AICACHE={"NAMESPACE": get_settings().namespace, "SINGLE_TENANT": True}):
        assert ask("prices?", "prices", tenant=None) == "miss"
        index()
        assert [row[1:3] for row in rows(viewer.get(TAGS))] == [["everybody's", "1"], ["the site's", "1"]]
