"""A form that is sent again is one call and one answer; with something else in it, it is asked as a new one."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from aicache.models import CacheEntry, IdempotencyKey
from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey
from tests.durable.asking import flush
from tests.example_project.conftest import Manage
from tests.example_project.test_freshness import an_article, pages
from tests.example_project.visits import answer_on, reason_on, status_on

# The tests' settings have two, and invalidations are counted in both.
pytestmark = pytest.mark.django_db(databases=["default", "other"])

QUESTION = "Can I get my money back?"
OTHER = "When are you open?"
PATH = "/acme/ask/"


def key_on(page: str) -> str:
    found = re.search(r'<input type="hidden" name="idempotency_key" value="([0-9a-f-]{36})" autocomplete="off"', page)
    assert found, page
    return found[1]


def drawn(client: Client, path: str = PATH) -> str:
    """The key of a form that is drawn now."""
    return key_on(client.get(path).content.decode())


def send(client: Client, key: str, question: str = QUESTION, path: str = PATH, **more: Any) -> str:
    headers = more.pop("headers", {})
    response = client.post(path, {"question": question, "idempotency_key": key, **more}, headers=headers)
    assert response.status_code == 200
    return str(response.content.decode())


@pytest.mark.usefixtures("site")
class TestOneForm:
    @pytest.mark.parametrize("path", ["/acme/", PATH, "/globex/ask/"])
    def test_each_that_is_drawn_has_a_key_of_its_own(self, client: Client, path: str) -> None:
        first, second = drawn(client, path), drawn(client, path)
        assert first != second

    def test_the_one_beside_an_answer_has_another_key_than_the_one_that_was_sent(self, client: Client) -> None:
        key = drawn(client)
        assert key_on(send(client, key)) != key

    @pytest.mark.parametrize("more", [{}, {"refresh": "on"}], ids=["as it is", "to be asked anew"])
    def test_that_is_sent_again_has_the_same_answer_and_the_card_says_why(
        self, client: Client, claude: ClaudeServer, more: dict[str, str]
    ) -> None:
        key = drawn(client)
        first, again = send(client, key, **more), send(client, key, **more)
        assert (status_on(first), status_on(again), claude.count) == ("miss", "hit", 1)
        assert answer_on(again) == answer_on(first) != ""
        assert reason_on(again) == "idempotency_key"
        assert "this very form had been sent before" in again
        assert f"<code>{key[:12]}…</code>" in again
        assert "Idempotency key" not in first

    def test_whose_answer_redis_has_lost_too_is_answered_by_its_key(self, client: Client, claude: ClaudeServer) -> None:
        key = drawn(client)
        first = send(client, key)
        flush()
        again = send(client, key)
        assert (reason_on(again), answer_on(again), claude.count) == ("idempotency_key", answer_on(first), 1)

    def test_that_is_sent_again_to_ask_anew_is_asked_anew(self, client: Client, claude: ClaudeServer) -> None:
        key = drawn(client)
        send(client, key)
        anew = send(client, key, refresh="on")
        assert (status_on(anew), reason_on(anew), claude.count) == ("miss", "refresh", 2)

    def test_with_another_question_is_asked_as_a_new_one_and_the_page_says_what_differs(
        self, client: Client, claude: ClaudeServer
    ) -> None:
        key = drawn(client)
        first, other = send(client, key), send(client, key, OTHER)
        assert (status_on(other), claude.count) == ("miss", 2)
        assert answer_on(other) != answer_on(first)
        assert "with another question in it: yours was asked as a new one. <code>body.messages[0]</code>" in other
        assert claude.calls[-1].body["messages"][0]["content"] == OTHER
        assert reason_on(send(client, key)) == "idempotency_key"  # the first still stands

    def test_with_another_question_says_so_in_german(self, client: Client) -> None:
        key, german = drawn(client), {"headers": {"accept-language": "de"}}
        send(client, key, **german)
        page = send(client, key, OTHER, **german)
        assert "war schon mit einer anderen Frage abgeschickt" in page
        assert "genau dieses Formular war schon abgeschickt" in send(client, key, **german)

    def test_after_an_article_has_changed_is_answered_from_what_it_says_now(
        self, client: Client, claude: ClaudeServer
    ) -> None:
        key, article = drawn(client), an_article("Refunds")
        send(client, key)
        article.body = "No refunds any more."
        article.save()
        page = send(client, key)
        assert "an article has changed since" in page
        assert "No refunds any more." in str(claude.calls[-1].body["system"])

    def test_in_another_language_is_answered_in_that_language(self, client: Client, claude: ClaudeServer) -> None:
        key = drawn(client)
        send(client, key)
        page = send(client, key, headers={"accept-language": "de"})
        assert "war schon in einer anderen Sprache abgeschickt" in page
        assert "Answer in German" in str(claude.calls[-1].body["system"])

    def test_of_another_tenant_may_have_the_same_key(self, client: Client, claude: ClaudeServer) -> None:
        key = drawn(client)
        send(client, key)
        page = send(client, key, path="/globex/ask/")
        assert (status_on(page), claude.count) == ("miss", 2)
        assert 'class="note"' not in page

    def test_whose_key_is_none_is_not_answered(self, client: Client, claude: ClaudeServer) -> None:
        response = client.post(PATH, {"question": QUESTION, "idempotency_key": "mine"})
        page = response.content.decode()
        assert (response.status_code, claude.count) == (422, 0)
        assert "This form is not as it was sent to you." in page
        assert "mine" not in page
        assert key_on(page)

    def test_without_a_key_is_answered_as_ever(self, client: Client) -> None:
        pages_ = [client.post(PATH, {"question": QUESTION}).content.decode() for _ in range(2)]
        assert [status_on(page) for page in pages_] == ["miss", "hit"]
        assert "Idempotency key" not in pages_[1]


@pytest.mark.usefixtures("site")
class TestKept:
    def test_an_answer_that_redis_has_lost_comes_from_the_database(self, client: Client, claude: ClaudeServer) -> None:
        first = send(client, drawn(client))
        flush()
        copy, hit = send(client, drawn(client)), send(client, drawn(client))
        assert [(status_on(page), reason_on(page)) for page in (copy, hit)] == [("hit", "copy"), ("hit", "")]
        assert answer_on(copy) == answer_on(hit) == answer_on(first)
        assert "Redis had lost it, and the database had a copy" in copy
        assert claude.count == 1

    def test_the_question_is_kept_with_it(self, client: Client) -> None:
        send(client, drawn(client))
        kept = json.loads(CacheEntry.objects.get().request or "")
        assert kept["messages"] == [{"role": "user", "content": QUESTION}]

    def test_what_has_expired_goes_with_the_upkeep(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def over(seconds: float) -> None:
            raise KeyboardInterrupt

        send(client, drawn(client))
        IdempotencyKey.objects.update(expires_at=timezone.now())
        monkeypatch.setattr("example_project.helpcentre.management.commands.upkeep.time.sleep", over)
        with pytest.raises(KeyboardInterrupt):
            call_command("upkeep")
        assert not IdempotencyKey.objects.exists()
        assert CacheEntry.objects.exists()

    def test_the_admin_shows_it(self, admin_client: Client) -> None:
        send(admin_client, drawn(admin_client))
        entry = CacheEntry.objects.get()
        page = admin_client.get(f"/admin/aicache/cacheentry/{entry.pk}/change/").content.decode()
        assert QUESTION in page


@pytest.mark.slow
def test_a_double_click_to_two_processes_is_one_call(manage: Manage, claude: ClaudeServer, tmp_path: Path) -> None:
    claude.latency = 1.0  # longer than the two are apart
    with Valkey() as valkey:
        environment = {
            "AICACHE_DEMO_REDIS": valkey.url,
            "AICACHE_DEMO_CLAUDE": claude.url,
            "AICACHE_DEMO_DB": str(tmp_path / "helpcentre.sqlite3"),
        }
        prepared = manage("prepare", "--skip-checks", **environment)
        _, errors = prepared.communicate(timeout=60)
        assert prepared.returncode == 0, errors
        visitors = [pages(manage, environment) for _ in range(2)]
        form = {"question": QUESTION, "refresh": "on", "idempotency_key": key_on(visitors[0].get(PATH))}
        with ThreadPoolExecutor() as threads:
            both = list(threads.map(lambda visitor: visitor.post(PATH, **form), visitors))
        assert sorted(status_on(page) for page in both) in (["coalesced", "miss"], ["hit", "miss"])
        assert answer_on(both[0]) == answer_on(both[1]) != ""
        assert claude.count == 1
