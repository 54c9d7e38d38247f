from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from aicache import upkeep
from aicache.invalidation import invalidate
from aicache.models import Invalidation
from tests.admin.conftest import Staff
from tests.admin.pages import INVALIDATIONS, TAGS, rows, text
from tests.answers import keep, without_redis
from tests.freshness.far import far

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def made(tag: str, *, age: timedelta, delay: timedelta | None = None, **more: Any) -> Invalidation:
    made_at = timezone.now() - age
    applied_at = None if delay is None else made_at + delay
    return Invalidation.objects.create(digest=tag, tag=tag, made_at=made_at, applied_at=applied_at, **more)


def test_pending_ones_come_first_and_then_the_newest(viewer: Client) -> None:
    at_once = timedelta(milliseconds=12)
    made("old:1", age=timedelta(hours=3), delay=at_once, tenant="acme", cause="saved")
    made("stuck:1", age=timedelta(hours=2), tenant="acme", cause="deleted")
    made("new:1", age=timedelta(hours=1), delay=timedelta(seconds=9), everybody=True, cause="invalidate")

    shown = rows(viewer.get(INVALIDATIONS))

    assert [row[:3] for row in shown] == [
        ["stuck:1", "acme", "deleted"],
        ["new:1", "everybody's", "invalidate"],
        ["old:1", "acme", "saved"],
    ]
    assert [row[-2] == "pending" for row in shown] == [True, False, False]
    assert [row[-1] for row in shown] == ["2 h", "9 s", "12 ms"]


def test_what_is_pending_is_said_above_the_list(viewer: Client) -> None:
    assert "pending" not in text(viewer.get(INVALIDATIONS)).split("Filter")[0]
    with without_redis():
        invalidate("prices", "refunds", tenant="acme")
    Invalidation.objects.filter(tag="prices").update(made_at=timezone.now() - timedelta(minutes=5, seconds=1))

    told = text(viewer.get(INVALIDATIONS))

    assert "2 invalidations are pending, the oldest for 5 min" in told
    assert "manage.py drain_invalidations" in told


def test_the_list_can_be_narrowed_and_searched(viewer: Client) -> None:
    now = timedelta()
    made("prices", age=now, delay=now, tenant="acme")
    made("refunds", age=now, tenant="globex")

    def found(query: str) -> list[str]:
        return sorted(row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?{query}")))

    assert found("state=pending") == ["refunds"]
    assert found("state=applied") == ["prices"]
    assert found("state=nonsense") == ["prices", "refunds"]
    assert found("q=pric") == ["prices"]
    assert found("q=globex") == ["refunds"]
    assert found("digest=prices") == ["prices"]


def test_nothing_can_be_changed(staff: Staff) -> None:
    row = made("prices", age=timedelta())
    rights = [f"{verb}_invalidation" for verb in ("view", "add", "change", "delete")]
    client = staff(*rights)

    page = client.get(INVALIDATIONS)
    assert "delete_selected" not in page.content.decode()
    assert client.get(f"{INVALIDATIONS}add/").status_code == 403
    assert client.get(f"{INVALIDATIONS}{row.pk}/delete/").status_code == 403
    assert client.post(f"{INVALIDATIONS}{row.pk}/change/", {"tag": "x"}).status_code == 403
    client.post(INVALIDATIONS, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert Invalidation.objects.get() == row


def test_one_can_be_looked_at(viewer: Client) -> None:
    row = made("prices", age=timedelta(days=3), tenant="acme", cause="saved")
    told = text(viewer.get(f"{INVALIDATIONS}{row.pk}/change/"))
    for word in ("prices", "acme", "saved", "pending", "3 days"):
        assert word in told


def plans(captured: CaptureQueriesContext) -> list[str]:
    """How the list itself was read."""
    (statement,) = (query["sql"] for query in captured if "LIMIT 50" in query["sql"] and '"cause"' in query["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        return [step[-1] for step in cursor.fetchall()]


def test_while_nothing_is_pending_no_long_table_is_sorted(viewer: Client) -> None:
    at_once = timedelta(milliseconds=12)
    for number in range(51):
        made(str(number), age=at_once, delay=at_once)
    with CaptureQueriesContext(connection) as captured:
        assert [row[0] for row in rows(viewer.get(INVALIDATIONS))][:3] == ["50", "49", "48"]
    assert not [step for step in plans(captured) if "TEMP B-TREE" in step]
    made("stuck", age=at_once)
    made("late", age=at_once, delay=at_once)
    assert [row[0] for row in rows(viewer.get(INVALIDATIONS))][:3] == ["stuck", "late", "50"]
    assert [row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?o=0"))][:3] == ["0", "1", "10"]
    assert [row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?state=applied"))][:3] == ["late", "50", "49"]


@pytest.mark.parametrize("how", ["refuses", "hangs"])
@pytest.mark.parametrize("page", [INVALIDATIONS, TAGS])
def test_a_database_that_does_not_answer_is_named_and_the_rest_is_shown(
    viewer: Client, page: str, how: str, tmp_path: Path
) -> None:
    keep(1, "prices")
    upkeep.index_tags()
    invalidate("prices", tenant="acme")
    with far(how, tmp_path) as alias:
        shown = viewer.get(page)
    assert "prices" in [row[0] for row in rows(shown)]
    assert f"The database {alias} does not answer" in text(shown)


def test_who_has_no_right_to_it_does_not_see_it(staff: Staff) -> None:
    assert staff().get(INVALIDATIONS).status_code == 403


def test_a_long_list_costs_as_many_queries_as_a_short_one(viewer: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert viewer.get(INVALIDATIONS).status_code == 200
        return len(captured)

    made("0", age=timedelta())
    queries()
    few = queries()
    for number in range(1, 30):
        made(str(number), age=timedelta())
    assert queries() == few


def test_a_tag_that_is_markup_is_text(viewer: Client) -> None:
    made("<b>&", age=timedelta(), tenant="<i>")
    page = viewer.get(INVALIDATIONS).content.decode()
    assert "&lt;b&gt;&amp;" in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("delay", "shown"),
    [
        (timedelta(seconds=-1), "0 ms"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=61), "1 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 days"),
    ],
)
def test_a_delay_is_said_by_its_largest_unit(viewer: Client, delay: timedelta, shown: str) -> None:
    made("prices", age=timedelta(days=3), delay=delay)
    assert rows(viewer.get(INVALIDATIONS))[0][-1] == shown


def test_in_another_language_the_page_still_works(viewer: Client) -> None:
    made("prices", age=timedelta())
    with translation.override("de"):
        assert viewer.get(INVALIDATIONS).status_code == 200


def test_another_database_has_a_list_of_its_own_and_its_pending_ones_are_said(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as alone:
        alone.setitem(connections["other"].settings_dict, "TEST", {"MIRROR": "default"})
        assert "By database" not in text(viewer.get(INVALIDATIONS))
    made("here", age=timedelta(), delay=timedelta())
    Invalidation.objects.using("other").create(digest="there", tag="there", made_at=timezone.now())

    page = viewer.get(INVALIDATIONS)

    assert [row[0] for row in rows(page)] == ["here"]
    assert "1 invalidation is pending" in text(page)
    assert "In the database other" in text(page)
    assert '<a href="?db=other">' in page.content.decode()
    assert [row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?db=other"))] == ["there"]
    assert [row[0] for row in rows(viewer.get(f"{INVALIDATIONS}?db=nowhere"))] == ["here"]
