"""Answers are marked as wrong, which retires them, or as right, which does not; each that was checked counts once."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import BaseStorage
from django.db import DatabaseError
from django.test import Client, RequestFactory, override_settings

from aicache.admin import judging
from aicache.admin.confirmation import MOST
from aicache.conf import get_settings
from aicache.durable import get_writer
from aicache.freshness.drain import drain
from aicache.ledger import counting
from aicache.models import CacheEntry, Invalidation
from aicache.tenants import GLOBAL, tenant_digest
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, question
from tests.admin.pages import ENTRIES, RIGHT, WRONG, hidden, rows, text
from tests.admin.test_entries import vars_of
from tests.answers import ask, keep, without_redis

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

Judged = list[dict[str, Any]]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """What was counted."""
    found: Judged = []
    monkeypatch.setattr(counting, "judged", lambda **told: found.append(told))
    return found


@pytest.fixture
def judge(staff: Staff) -> Client:
    """May look at answers, read them and mark them, and no more."""
    return staff("view_cacheentry", "view_content", "mark_wrong")


def an_answer(*, tenant: Any = "acme") -> CacheEntry:
    keep(1, "prices", tenant=tenant)
    assert get_writer().flush()
    return CacheEntry.objects.latest("pk")


def asked(tenant: Any = "acme") -> str:
    return ask("0 of ('prices',)", "prices", tenant=tenant)


def mark(client: Client, address: str, *entries: CacheEntry) -> Any:
    """Looks, and confirms."""
    page = client.get(address, {"id": [entry.pk for entry in entries]})
    return client.post(address, hidden(page), follow=True)


def back(page: Any) -> str:
    """Where "No, take me back" leads."""
    (found,) = re.findall(r'<a href="([^"]*)" class="button cancel-link">', page.content.decode())
    return html.unescape(found)


def action(page: Any) -> str:
    """Where the confirmation is sent."""
    form = page.content.decode().split("delete-confirmation", 1)[1].split('id="content-main"', 1)[1]
    (found,) = re.findall(r'<form method="post" action="([^"]*)">', form)
    return html.unescape(found)


class TestWrong:
    def test_what_would_be_marked_is_shown_before_it_is(self, judge: Client, judged: Judged) -> None:
        entry = kept(message("Never."), request=question("Do you repair zips?"))
        told = text(judge.get(WRONG, {"id": entry.pk}))
        assert "Mark this answer as wrong?" in told
        assert "Do you repair zips? Never. acme" in told
        assert "Yes, mark as wrong" in judge.get(WRONG, {"id": entry.pk}).content.decode()
        assert CacheEntry.objects.exists()
        assert judged == []

    def test_it_dies_and_counts_when_that_is_confirmed(self, judge: Client, judged: Judged) -> None:
        entry = an_answer()
        assert asked() == "hit"

        done = mark(judge, WRONG, entry)

        assert "1 answer was marked as wrong: it is not served any more." in text(done)
        assert asked() == "miss"
        assert not CacheEntry.objects.filter(pk=entry.pk).exists()
        assert judged == [
            {
                "owner": tenant_digest("acme"),
                "tenant": "acme",
                "everybody": False,
                "model": entry.model,
                "policy": "default",
                "wrong": True,
            }
        ]

    def test_it_is_written_down_as_the_users_deed(self, judge: Client) -> None:
        entry = kept()
        mark(judge, WRONG, entry)
        log = LogEntry.objects.get()
        assert (log.object_id, log.object_repr, log.is_deletion()) == (str(entry.pk), entry.key[:12], True)
        assert log.change_message == "Marked as wrong (acme)."

    def test_several_are_marked_at_once_whosever_they_are(self, judge: Client, judged: Judged) -> None:
        ids = [kept(tenant=tenant).pk for tenant in ("acme", "globex", GLOBAL)]
        page = judge.post(ENTRIES, {"action": "wrong", "_selected_action": ids})
        assert "Mark these answers as wrong?" in text(page)
        assert "3 answers were marked as wrong" in text(judge.post(WRONG, hidden(page), follow=True))
        assert sorted((told["tenant"], told["everybody"]) for told in judged) == [
            ("", True),
            ("acme", False),
            ("globex", False),
        ]
        assert not CacheEntry.objects.exists()

    def test_a_form_that_is_sent_twice_counts_once(self, judge: Client, judged: Judged) -> None:
        page = judge.get(WRONG, {"id": kept().pk})
        for _ in range(2):
            done = judge.post(WRONG, hidden(page), follow=True)
        assert "What was chosen is not there any more." in text(done)
        assert len(judged) == 1
        assert LogEntry.objects.count() == 1

    def test_and_so_does_one_that_is_sent_twice_in_the_same_moment(self, judged: Judged) -> None:
        entry = kept()
        for _ in range(2):
            judging.retired(posted(), [entry])
        assert len(judged) == 1
        assert LogEntry.objects.count() == 1

    def test_without_redis_it_is_pending_and_counted(self, judge: Client, judged: Judged) -> None:
        entry = an_answer()
        with without_redis():
            done = mark(judge, WRONG, entry)
        assert "1 answer is marked as wrong; that it dies is written, and pending" in text(done)
        drain()
        assert asked() == "miss"
        assert len(judged) == 1

    def test_where_it_cannot_be_written_nothing_dies_and_nothing_counts(
        self, judge: Client, judged: Judged, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*args: Any, **kwargs: Any) -> None:
            raise DatabaseError("the disk is full")

        entry = an_answer()
        page = judge.get(WRONG, {"id": entry.pk})
        monkeypatch.setattr(LogEntry.objects, "bulk_create", fails)
        with pytest.raises(DatabaseError, match="the disk is full"):
            judge.post(WRONG, hidden(page))
        assert judged == []
        assert not Invalidation.objects.exists()
        assert asked() == "hit"


class TestRight:
    def test_it_is_counted_and_goes_on_living(self, judge: Client, judged: Judged) -> None:
        entry = an_answer()
        told = text(judge.get(RIGHT, {"id": entry.pk}))
        assert "Mark this answer as right?" in told

        done = mark(judge, RIGHT, entry)

        assert "1 answer was marked as right." in text(done)
        assert asked() == "hit"
        assert not Invalidation.objects.exists()
        assert [(told["tenant"], told["wrong"]) for told in judged] == [("acme", False)]
        log = LogEntry.objects.get()
        assert (log.object_id, log.object_repr, log.is_change()) == (str(entry.pk), entry.key[:12], True)
        assert log.change_message == "Marked as right (acme)."
        assert "Marked as right (acme)." in text(judge.get(f"{ENTRIES}{entry.pk}/history/"))

    def test_its_page_is_shown_again_as_it_is_still_there(self, judge: Client) -> None:
        entry = kept()
        page = judge.get(RIGHT, {"id": entry.pk})
        assert judge.post(action(page), hidden(page)).headers["Location"] == f"{ENTRIES}{entry.pk}/change/"
        wrong = judge.get(WRONG, {"id": entry.pk})
        assert judge.post(action(wrong), hidden(wrong)).headers["Location"] == ENTRIES

    def test_each_counts_once_whoever_marks_it_how_often(self, judge: Client, judged: Judged, staff: Staff) -> None:
        first, second = kept(), kept()
        mark(judge, RIGHT, first)
        told = text(mark(judge, RIGHT, first))
        assert "1 answer had been marked as right before, and is not counted again." in told
        told = text(mark(staff("view_cacheentry", "mark_wrong"), RIGHT, first, second))
        assert "1 answer was marked as right." in told
        assert "1 answer had been marked as right before" in told
        assert len(judged) == 2
        assert LogEntry.objects.count() == 2

    def test_and_so_does_one_that_is_sent_twice_in_the_same_moment(self, judged: Judged) -> None:
        entry = kept()
        for _ in range(2):
            judging.accepted(posted(), [entry])
        assert len(judged) == 1

    def test_an_answer_that_took_its_place_is_another_one(self, judge: Client, judged: Judged) -> None:
        entry = kept()
        mark(judge, RIGHT, entry)
        LogEntry.objects.update(action_time=entry.created_at - timedelta(seconds=1))
        assert "1 answer was marked as right." in text(mark(judge, RIGHT, entry))
        assert len(judged) == 2

    def test_the_page_says_that_it_was_checked_and_by_whom(self, judge: Client) -> None:
        entry = kept()
        assert "Checked: -" in text(judge.get(f"{ENTRIES}{entry.pk}/change/"))
        mark(judge, RIGHT, entry)
        assert "Checked: right, " in (told := text(judge.get(f"{ENTRIES}{entry.pk}/change/")))
        assert "by with view_cacheentry, view_content, mark_wrong" in told

    def test_one_that_turns_out_wrong_is_marked_so_and_dies(self, judge: Client, judged: Judged) -> None:
        entry = kept()
        mark(judge, RIGHT, entry)
        mark(judge, WRONG, entry)
        assert [told["wrong"] for told in judged] == [False, True]
        assert not CacheEntry.objects.exists()

    def test_several_are_marked_at_once(self, judge: Client, judged: Judged) -> None:
        ids = [kept(tenant=tenant).pk for tenant in ("acme", "globex")]
        page = judge.post(ENTRIES, {"action": "right", "_selected_action": ids})
        assert "Mark these answers as right?" in text(page)
        assert "2 answers were marked as right." in text(judge.post(RIGHT, hidden(page), follow=True))
        assert sorted(told["tenant"] for told in judged) == ["acme", "globex"]


@pytest.mark.parametrize("address", [WRONG, RIGHT])
class TestBoth:
    def test_what_took_the_place_of_what_was_shown_is_not_marked(
        self, judge: Client, judged: Judged, address: str
    ) -> None:
        entry, other = kept(), kept()
        page = judge.get(address, {"id": [entry.pk, other.pk]})
        CacheEntry.objects.filter(pk=entry.pk).update(created_at=entry.created_at + timedelta(microseconds=1))
        assert "1 answer was marked" in text(judge.post(address, hidden(page), follow=True))
        assert len(judged) == 1
        assert CacheEntry.objects.filter(pk=entry.pk).exists()
        done = judge.post(address, {"id": entry.pk, "confirmed": "yes"}, follow=True)
        assert "What was chosen is not there any more." in text(done)
        assert len(judged) == 1

    def test_too_many_at_once_are_refused(self, judge: Client, judged: Judged, address: str) -> None:
        row = kept()
        CacheEntry.objects.bulk_create(CacheEntry(**{**vars_of(row), "digest": str(number)}) for number in range(MOST))
        verb = address.split("/")[-2]
        chosen = {"action": verb, "_selected_action": row.pk, "select_across": "1"}
        assert judge.post(ENTRIES, chosen).status_code == 302
        assert f"more than {MOST} answers at once" in text(judge.get(ENTRIES))
        assert judged == []

    def test_the_page_of_an_entry_leads_there(self, judge: Client, keeper: Client, address: str) -> None:
        entry = kept()
        page = f"{ENTRIES}{entry.pk}/change/"
        assert f'href="{address}?id={entry.pk}"' in judge.get(page).content.decode()
        assert address not in keeper.get(page).content.decode()

    def test_whoever_does_not_mean_it_is_taken_back_to_where_they_were(self, judge: Client, address: str) -> None:
        entry = kept()
        assert back(judge.get(address, {"id": entry.pk})) == f"{ENTRIES}{entry.pk}/change/"
        chosen = {"action": address.split("/")[-2], "_selected_action": entry.pk}
        assert back(judge.post(f"{ENTRIES}?life=on&q=ac", chosen)) == f"{ENTRIES}?life=on&q=ac"
        assert back(judge.post(ENTRIES, chosen)) == ENTRIES

    def test_the_list_is_as_narrow_afterwards_as_it_was(self, judge: Client, address: str) -> None:
        chosen = {"action": address.split("/")[-2], "_selected_action": kept().pk}
        page = judge.post(f"{ENTRIES}?life=on&tenant=acme", chosen)
        done = judge.post(action(page), hidden(page))
        assert done.headers["Location"] == f"{ENTRIES}?life=on&tenant=acme"

    def test_without_the_right_to_it_nothing_is_marked(
        self, keeper: Client, staff: Staff, judged: Judged, address: str
    ) -> None:
        entry = kept()
        verb = address.split("/")[-2]
        given = {"id": entry.pk, "confirmed": "yes", "made": judging.version(entry)}
        for client in (keeper, staff("mark_wrong"), staff("view_cacheentry", "view_content")):
            assert client.get(address, {"id": entry.pk}).status_code == 403
            assert client.post(address, given).status_code == 403
        keeper.post(ENTRIES, {"action": verb, "_selected_action": entry.pk, **given})
        assert f'value="{verb}"' not in keeper.get(ENTRIES).content.decode()
        assert Client().post(address, given).status_code == 302
        assert judged == []
        assert CacheEntry.objects.exists()

    def test_a_link_or_another_sites_form_marks_nothing(self, judge: Client, judged: Judged, address: str) -> None:
        entry = kept()
        given = {"id": entry.pk, "confirmed": "yes", "made": judging.version(entry)}
        judge.get(address, given)
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = judge.cookies
        assert strict.post(address, given).status_code == 403
        assert judged == []
        assert CacheEntry.objects.exists()

    def test_in_a_site_of_one_tenant_it_is_the_sites(self, judge: Client, judged: Judged, address: str) -> None:
        with override_settings(AICACHE={"NAMESPACE": get_settings().namespace, "SINGLE_TENANT": True}):
            assert ask("prices?", "prices", tenant=None) == "miss"
            assert get_writer().flush()
            mark(judge, address, CacheEntry.objects.get())
        assert [(told["tenant"], told["everybody"]) for told in judged] == [("", False)]


def test_marking_needs_no_right_to_purge_and_gives_none(judge: Client) -> None:
    kept()
    page = judge.get(ENTRIES).content.decode()
    assert 'value="wrong"' in page
    assert 'value="right"' in page
    assert 'value="purge"' not in page
    assert len(rows(judge.get(ENTRIES))) == 1


def test_what_fails_to_be_counted_is_no_error_of_the_page(judge: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**told: Any) -> None:
        raise RuntimeError("no counters")

    monkeypatch.setattr(counting, "judged", fails)
    entry = an_answer()
    assert "1 answer was marked as wrong" in text(mark(judge, WRONG, entry))
    assert asked() == "miss"


def posted() -> Any:
    request = RequestFactory().post("/")
    request.user = User.objects.get_or_create(username="somebody")[0]
    request._messages = BaseStorage(request)
    return request
