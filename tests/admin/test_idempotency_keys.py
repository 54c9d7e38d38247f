from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from aicache.admin.confirmation import MOST
from aicache.models import IdempotencyKey
from aicache.tenants import GLOBAL
from tests.admin.conftest import Staff
from tests.admin.kept import message, pinned
from tests.admin.pages import FORGET, KEYS, hidden, rows, text

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

HOUR = timedelta(hours=1)


def page_of(client: Client, row: IdempotencyKey) -> Any:
    return client.get(f"{KEYS}{row.pk}/change/")


def some() -> None:
    """One in each state, by its name."""
    now = timezone.now()
    pinned("answered", message("Yes."))
    pinned("under way", holder="somebody", held_until=now + HOUR, tenant="globex", model="claude-opus-4")
    pinned("asked anew", message("Dead."), holder="somebody", held_until=now + HOUR)
    pinned("given up", holder="somebody", held_until=now - HOUR)
    pinned("not answered", tenant=GLOBAL)
    pinned("expired", message("Yes."), life=-1)


def test_each_key_says_how_it_stands_with_it(reader: Client) -> None:
    some()
    shown = rows(reader.get(KEYS))
    assert {row[0]: row[1].rpartition(" 59 min left")[0] or row[1].split()[0] for row in shown} == {
        "answered": "answered",
        "under way": "under way",
        "asked anew": "under way",
        "given up": "not answered",
        "not answered": "not answered",
        "expired": "expired",
    }
    assert shown[-1][2:4] == ["acme", "claude-sonnet-5"]
    assert shown[-1][4].endswith(" answered in 0 ms")
    assert shown[1][2] == "everybody's"


def test_keys_are_searched_and_narrowed_down(reader: Client) -> None:
    some()

    def found(query: str) -> list[str]:
        return sorted(row[0] for row in rows(reader.get(f"{KEYS}?{query}")))

    assert found("q=anew") == ["asked anew"]
    assert found("q=glob") == ["under way"]
    assert found("state=under_way") == ["asked anew", "under way"]
    assert found("state=answered") == ["answered"]
    assert found("state=unanswered") == ["given up", "not answered"]
    assert found("state=expired") == ["expired"]
    assert found("whose=everybody") == ["not answered"]
    assert found("tenant=globex") == ["under way"]
    assert found("model=claude-opus-4") == ["under way"]


def test_a_long_list_costs_as_many_queries_as_a_short_one_and_reads_no_answers(keeper: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert keeper.get(KEYS).status_code == 200
        assert not [query for query in captured if '"payload"' in query["sql"] or '"parts"' in query["sql"]]
        return len(captured)

    pinned("first", message("Yes."))
    queries()
    few = queries()
    for number in range(40):
        pinned(str(number), message("Yes."))
    assert queries() == few


def test_a_keys_page_shows_the_answer_that_is_repeated(reader: Client) -> None:
    row = pinned("order-1", message("Yes.", {"type": "tool_use", "name": "ship", "input": {"order": 1}}))
    told = text(page_of(reader, row))
    for words in ("Key: order-1", "State: answered", "text Yes.", 'tool_use: ship { "order": 1 }', "input_tokens 12"):
        assert words in told
    assert "the next call under it calls upstream again" in told


def test_a_key_without_an_answer_says_what_the_next_call_does(reader: Client) -> None:
    told = text(page_of(reader, pinned("order-1")))
    assert "There is none yet. The next call under this key calls upstream" in told
    assert "State: not answered" in told


def test_an_answer_that_is_unreadable_says_so(reader: Client) -> None:
    row = pinned("order-1", message("Yes."))
    IdempotencyKey.objects.update(payload=b"nonsense")
    assert "This answer cannot be read" in text(page_of(reader, row))


def test_a_key_that_is_markup_is_text(keeper: Client) -> None:
    row = pinned("<script>", message("<script>"), tenant="<script>", model="<script>")
    for page in (keeper.get(KEYS), page_of(keeper, row), select(keeper, [row.pk])):
        assert page.status_code == 200
        assert "<script>" not in re.sub(r'<script (src|id)="', "", page.content.decode())


def test_nothing_can_be_changed(staff: Staff) -> None:
    row = pinned("order-1")
    client = staff(*(f"{verb}_idempotencykey" for verb in ("view", "add", "change", "delete")))
    assert client.get(f"{KEYS}add/").status_code == 403
    assert client.post(f"{KEYS}{row.pk}/change/", {"name": "x"}).status_code == 403
    assert client.post(f"{KEYS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(KEYS, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert IdempotencyKey.objects.get().name == "order-1"


def select(client: Client, ids: list[int], **more: Any) -> Any:
    return client.post(KEYS, {"action": "forget", "_selected_action": ids, **more})


def confirm(client: Client, page: Any) -> Any:
    return client.post(FORGET, hidden(page), follow=True)


class TestForgetting:
    def test_what_would_be_forgotten_is_shown_before_it_is(self, keeper: Client) -> None:
        some()
        told = text(select(keeper, list(IdempotencyKey.objects.values_list("pk", flat=True))))
        assert "Forget these keys?" in told
        assert "under way globex under way" in told
        assert "given up acme not answered" in told
        assert "a call is being made just now" in told
        assert IdempotencyKey.objects.count() == 6

    def test_it_is_forgotten_when_that_is_confirmed(self, keeper: Client) -> None:
        first, second, third = (pinned(name, message("Yes.")) for name in ("1", "2", "3"))
        page = select(keeper, [first.pk, third.pk])
        assert "just now" not in text(page)

        done = confirm(keeper, page)

        assert "2 keys are forgotten: the next call under each calls upstream again." in text(done)
        assert IdempotencyKey.objects.get() == second
        entries = LogEntry.objects.order_by("object_repr")
        assert [(entry.object_repr, entry.is_deletion()) for entry in entries] == [("1", True), ("3", True)]
        assert entries[0].change_message == "Forgotten (acme)."

    def test_the_page_of_a_key_leads_there_too(self, keeper: Client) -> None:
        row = pinned("order-1")
        assert f'href="{FORGET}?id={row.pk}"' in page_of(keeper, row).content.decode()
        page = keeper.get(FORGET, {"id": row.pk})
        assert "Forget this key?" in text(page)
        assert "1 key is forgotten" in text(confirm(keeper, page))

    def test_what_is_not_there_or_too_much_is_said_to_be(self, keeper: Client) -> None:
        assert "What was chosen is not there any more." in text(keeper.get(FORGET, {"id": "7"}, follow=True))
        row = pinned("order-1")
        IdempotencyKey.objects.bulk_create(
            IdempotencyKey(digest=str(number), created_at=row.created_at, expires_at=row.expires_at)
            for number in range(MOST)
        )
        assert select(keeper, [row.pk], select_across="1").status_code == 302
        assert f"more than {MOST} keys at once" in text(keeper.get(KEYS))
        assert IdempotencyKey.objects.count() == MOST + 1


class TestWhoMay:
    def test_the_right_to_look_is_no_right_to_forget(self, reader: Client) -> None:
        row = pinned("order-1")
        for page in (reader.get(KEYS), page_of(reader, row)):
            assert FORGET not in page.content.decode()
            assert 'value="forget"' not in page.content.decode()
        select(reader, [row.pk], confirmed="yes")
        assert reader.post(FORGET, {"id": row.pk, "confirmed": "yes"}).status_code == 403
        assert IdempotencyKey.objects.exists()

    def test_without_the_right_to_look_nothing_is_seen(self, staff: Staff) -> None:
        row = pinned("order-1")
        for client in (staff(), staff("forget_key", "view_cacheentry")):
            assert client.get(KEYS).status_code == 403
            assert page_of(client, row).status_code == 403
            assert client.get(FORGET, {"id": row.pk}).status_code == 403

    def test_a_link_forgets_nothing(self, keeper: Client) -> None:
        row = pinned("order-1")
        keeper.get(FORGET, {"id": row.pk, "confirmed": "yes"})
        assert IdempotencyKey.objects.exists()


def test_in_another_language_and_without_time_zones_the_pages_still_work(keeper: Client) -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"), translation.override("de"):
        row = pinned("order-1", message("Yes."))
        assert keeper.get(KEYS).status_code == 200
        assert page_of(keeper, row).status_code == 200
