"""An answer dies with the article that it was made from: what a visitor sees of it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey
from tests.example_project.conftest import Manage
from tests.example_project.visits import Visitor, answer_on, reason_on, status_on

QUESTION = "Are there exceptions?"


def an_article(title: str, tenant: str = "acme") -> Any:
    from example_project.helpcentre.models import Article

    return Article.objects.get(tenant=tenant, title=title)


def tag_of(article: Any) -> str:
    return f"helpcentre.article:{article.pk}"


def ask(client: Client, about: Any, **more: str) -> str:
    """``about``: an article, or the tenant whose articles are all asked."""
    path = f"/{about}/ask/" if isinstance(about, str) else about.get_absolute_url()
    return client.post(path, {"question": QUESTION, **more}).content.decode()


def edited(client: Client, article: Any, **changes: str) -> None:
    fields = {"tenant": article.tenant, "title": article.title, "body": article.body, **changes}
    assert client.post(f"/admin/helpcentre/article/{article.pk}/change/", fields).status_code == 302


@pytest.mark.usefixtures("site")
@pytest.mark.django_db(databases=["default", "other"])  # the tests' settings have two
class TestOnePage:
    def test_a_question_about_one_article_is_answered_from_that_one_only(
        self, client: Client, claude: ClaudeServer
    ) -> None:
        article = an_article("Refunds")
        first, second = ask(client, article), ask(client, article)
        assert (status_on(first), status_on(second), claude.count) == ("miss", "hit", 1)
        assert "within 30 days" in str(claude.calls[0].body["system"])
        assert "kayaks" not in str(claude.calls[0].body["system"])
        assert f"<code>{tag_of(article)}</code>" in second
        assert article.title in second

    def test_an_edit_in_the_admin_ends_the_answers_about_that_article_and_those_about_all(
        self, admin_client: Client, claude: ClaudeServer
    ) -> None:
        article, other = an_article("Refunds"), an_article("Warranty")
        asked = [article, other, "acme", "globex"]
        before = [ask(admin_client, about) for about in asked]
        edited(admin_client, article, body="No refunds any more.")
        after = [ask(admin_client, about) for about in asked]
        assert [status_on(page) for page in before] == ["miss"] * 4
        assert [status_on(page) for page in after] == ["miss", "hit", "miss", "hit"]
        assert answer_on(after[0]) not in {"", answer_on(before[0])}
        assert answer_on(after[1]) == answer_on(before[1])
        assert "No refunds any more." in str(claude.calls[4].body["system"])

    def test_a_save_is_the_reason_though_the_text_is_the_same(self, admin_client: Client) -> None:
        article = an_article("Refunds")
        ask(admin_client, article)
        ask(admin_client, "acme")
        edited(admin_client, article)
        page, about_all = ask(admin_client, article), ask(admin_client, "acme")
        assert reason_on(page) == f"source_changed:{tag_of(article)}"
        assert "the article behind the earlier answer has changed" in page
        assert reason_on(about_all) == "invalidated:helpcentre.article"
        assert "an article behind the earlier answer was saved or deleted" in about_all

    def test_a_purge_is_the_reason(self, client: Client) -> None:
        article, other = an_article("Refunds"), an_article("Warranty")
        for about in (article, other):
            ask(client, about)
        call_command("purge_tag", tag_of(article), "--tenant", "acme", verbosity=0)
        assert reason_on(ask(client, article)) == f"invalidated:{tag_of(article)}"
        assert status_on(ask(client, other)) == "hit"

    def test_the_reason_is_said_in_german(self, client: Client) -> None:
        article = an_article("Refunds")
        german = {"headers": {"accept-language": "de"}}
        client.post(article.get_absolute_url(), {"question": QUESTION}, **german)
        article.save()
        page = client.post(article.get_absolute_url(), {"question": QUESTION}, **german).content.decode()
        assert "der Artikel hinter der früheren Antwort hat sich geändert" in page
        assert reason_on(page) == f"source_changed:{tag_of(article)}"

    def test_what_is_not_committed_yet_is_asked_past_the_cache(self, client: Client) -> None:
        article = an_article("Refunds")
        ask(client, article)
        with transaction.atomic():
            article.save()
            page = ask(client, article)
        assert (status_on(page), reason_on(page)) == ("bypass", f"uncommitted:{tag_of(article)}")

    @pytest.mark.parametrize("change", ["added", "deleted"])
    def test_an_article_that_comes_or_goes_ends_the_answers_about_all(
        self, admin_client: Client, claude: ClaudeServer, change: str
    ) -> None:
        ask(admin_client, "acme")
        if change == "added":
            fields = {"tenant": "acme", "title": "Repairs", "body": "We repair zips."}
            admin_client.post("/admin/helpcentre/article/add/", fields)
        else:
            admin_client.post(f"/admin/helpcentre/article/{an_article('Warranty').pk}/delete/", {"post": "yes"})
        assert status_on(ask(admin_client, "acme")) == "miss"
        assert claude.count == 2

    @pytest.mark.parametrize("page", ["invalidationtag/", "invalidationtag/purge/", "invalidation/"])
    def test_the_admin_shows_what_hangs_and_what_died(self, admin_client: Client, page: str) -> None:
        assert admin_client.get(f"/admin/aicache/{page}").status_code == 200


@pytest.mark.slow
def test_an_edit_in_one_process_is_seen_by_the_next_request_to_another(
    manage: Manage, claude: ClaudeServer, tmp_path: Path
) -> None:
    with Valkey() as valkey:
        environment = {
            "AICACHE_DEMO_REDIS": valkey.url,
            "AICACHE_DEMO_CLAUDE": claude.url,
            "AICACHE_DEMO_DB": str(tmp_path / "helpcentre.sqlite3"),
        }
        prepared = manage("prepare", "--skip-checks", **environment, DJANGO_SUPERUSER_PASSWORD="secret")
        _, errors = prepared.communicate(timeout=60)
        assert prepared.returncode == 0, errors
        editor, reader = (pages(manage, environment) for _ in range(2))
        about_it, about_other = (editor.post(f"/acme/articles/{pk}/", question=QUESTION) for pk in (1, 2))
        assert status_on(reader.post("/acme/articles/1/", question=QUESTION)) == "hit"
        editor.post("/admin/login/?next=/admin/", username="admin", password="secret")
        editor.post("/admin/helpcentre/article/1/change/", tenant="acme", title="Refunds", body="No refunds any more.")
        new, other = (reader.post(f"/acme/articles/{pk}/", question=QUESTION) for pk in (1, 2))
        assert (status_on(new), status_on(other)) == ("miss", "hit")
        assert answer_on(new) not in {"", answer_on(about_it)}
        assert answer_on(other) == answer_on(about_other)
        assert "No refunds any more." in str(claude.calls[-1].body["system"])
        assert claude.count == 3


def pages(manage: Manage, environment: dict[str, str]) -> Visitor:
    """A server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = manage("runserver", "--noreload", f"127.0.0.1:{port}", **environment)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return Visitor(f"http://127.0.0.1:{port}")
    raise TimeoutError("the pages' server did not start")
