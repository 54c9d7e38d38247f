"""What a visitor sees, through Django's test client, from the stand-in and a real cache."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, Permission, User
from django.test import AsyncClient, Client

import aicache
from aicache.testing import ClaudeServer, Reply
from tests.example_project.visits import status_on

pytestmark = [
    pytest.mark.usefixtures("site"),
    pytest.mark.django_db(databases=["default", "other"]),  # the tests' settings have two
]

QUESTION = "Can I get my money back?"


def ask(client: Client, tenant: str = "acme", question: str = QUESTION, **more: str) -> Any:
    return client.post(f"/{tenant}/ask/", {"question": question, **more})


def words(response: Any) -> str:
    return str(response.content.decode())


def test_the_front_page_leads_to_both_help_centres(client: Client) -> None:
    page = words(client.get("/"))
    assert 'href="/acme/"' in page
    assert 'href="/globex/"' in page
    assert "stand-in" in page


def test_each_help_centre_lists_its_own_articles(client: Client) -> None:
    acme, globex = (words(client.get(f"/{tenant}/")) for tenant in ("acme", "globex"))
    assert "Warranty" in acme
    assert "Warranty" not in globex
    assert "Descaling your machine" in globex
    assert "Descaling your machine" not in acme


def test_an_article_is_shown_to_its_own_tenant_only(client: Client) -> None:
    from example_project.helpcentre.models import Article

    article = Article.objects.get(tenant="globex", title="Refunds")
    assert "less 15 euros for cleaning" in words(client.get(article.get_absolute_url()))
    assert client.get(f"/acme/articles/{article.pk}/").status_code == 404


def test_a_help_centre_that_does_not_exist_is_not_found(client: Client) -> None:
    assert client.get("/initech/").status_code == 404


def test_the_first_question_is_a_miss_and_the_second_a_hit(client: Client, claude: ClaudeServer) -> None:
    first, second = ask(client), ask(client)
    assert (status_on(words(first)), status_on(words(second)), claude.count) == ("miss", "hit", 1)
    assert first.context["answer"].text == second.context["answer"].text
    assert "so Claude was called." in words(first)
    assert "so Claude was not called." in words(second)
    card = second.context["card"]
    assert dict(card.figures)["Tokens saved"] == f"{second.context['answer'].info.saved_tokens:,}" != "0"
    assert dict(card.figures)["Dollars saved"].startswith("$0.00")
    assert len(card.key) == 12
    assert f"{card.key}…" in words(second)


def test_claude_is_given_the_articles_of_the_tenant_only(client: Client, claude: ClaudeServer) -> None:
    ask(client, "acme")
    ask(client, "globex")
    acme, globex = (str(call.body["system"]) for call in claude.calls)
    assert "within 30 days" in acme
    assert "cleaning" not in acme
    assert "cleaning" in globex


def test_the_other_tenant_gets_an_answer_of_its_own(client: Client, claude: ClaudeServer) -> None:
    acme, globex = ask(client, "acme"), ask(client, "globex")
    assert status_on(words(globex)) == "miss"
    assert acme.context["answer"].text != globex.context["answer"].text
    assert claude.count == 2


def test_asking_anew_calls_again_and_keeps_the_new_answer(client: Client, claude: ClaudeServer) -> None:
    ask(client)
    anew, after = ask(client, refresh="on"), ask(client)
    assert (status_on(words(anew)), claude.count) == ("miss", 2)
    assert "you asked for a new answer" in words(anew)
    assert status_on(words(after)) == "hit"
    assert after.context["answer"].text == anew.context["answer"].text


def test_bypassing_calls_again_and_keeps_nothing(client: Client, claude: ClaudeServer) -> None:
    first = ask(client)
    bypassing, after = ask(client, bypass="on"), ask(client)
    assert (status_on(words(bypassing)), claude.count) == ("bypass", 2)
    assert after.context["answer"].text == first.context["answer"].text


def test_a_changed_article_makes_a_new_answer(client: Client) -> None:
    from example_project.helpcentre.models import Article

    ask(client)
    article = Article.objects.get(tenant="acme", title="Refunds")
    article.body = "No refunds any more."
    article.save()
    assert status_on(words(ask(client))) == "miss"


def test_another_language_is_another_answer_on_a_page_in_that_language(client: Client, claude: ClaudeServer) -> None:
    ask(client)
    german = client.post("/acme/ask/", {"question": QUESTION}, headers={"accept-language": "de"})
    assert status_on(words(german)) == "miss"
    assert '<html lang="de">' in words(german)
    assert "Was der Cache getan hat" in words(german)
    assert "Answer in German" in str(claude.calls[-1].body["system"])


@pytest.mark.parametrize("question", ["", "   ", "x" * 501])
def test_a_question_that_is_none_is_asked_nobody(client: Client, claude: ClaudeServer, question: str) -> None:
    response = ask(client, question=question)
    assert (response.status_code, claude.count) == (422, 0)
    assert 'class="wrong"' in words(response)


def test_an_answer_cannot_bring_markup_into_the_page(client: Client, claude: ClaudeServer) -> None:
    claude.script(Reply.text("<script>alert(1)</script>"))
    page = words(ask(client, question="<b>bold</b>"))
    assert "<script" not in page
    assert "<b>" not in page


def test_when_claude_fails_the_page_says_so(client: Client, claude: ClaudeServer) -> None:
    claude.script(Reply.error(400))
    response = ask(client)
    assert (response.status_code, status_on(words(response))) == (502, "error")
    assert "Claude cannot be asked just now" in words(response)


def test_an_answer_that_was_cut_off_is_shown_as_not_kept(client: Client, claude: ClaudeServer) -> None:
    claude.script(Reply.text("Well", stop_reason="max_tokens"))
    page = words(ask(client))
    assert "the answer is not complete, so it is not kept" in page
    assert "not kept</dd>" in page


def test_without_a_key_the_page_says_that_claude_cannot_be_asked(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from example_project.helpcentre import answers

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    settings.HELPCENTRE_CLAUDE_URL = None
    answers.client.cache_clear()
    response = ask(client)
    assert (response.status_code, status_on(words(response))) == (502, "error")


def test_articles_are_changed_in_the_admin(admin_client: Client) -> None:
    page = words(admin_client.get("/admin/helpcentre/article/"))
    assert "Descaling your machine" in page


@pytest.mark.parametrize(
    ("groups", "seen"), [(["acme"], {"acme"}), (["acme", "globex"], {"acme", "globex"}), (["press"], set())]
)
def test_staff_sees_the_rows_of_the_customers_that_it_is_a_group_of(
    client: Client, admin_client: Client, groups: list[str], seen: set[str]
) -> None:
    for tenant in ("acme", "globex"):
        aicache.invalidate("prices", tenant=tenant)
    user = User.objects.create_user("jane", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="aicache"))
    user.groups.set([Group.objects.create(name=name) for name in groups])
    client.force_login(user)
    for who, tenants in ((client, seen), (admin_client, {"acme", "globex"})):
        page = words(who.get("/admin/aicache/invalidation/"))
        assert {tenant for tenant in ("acme", "globex") if f">{tenant}<" in page} == tenants


@pytest.mark.parametrize("path", ["/", "/acme/", "/acme/ask/"])
def test_the_pages_need_no_script_and_nothing_inline(client: Client, path: str) -> None:
    page = words(client.get(path))
    for forbidden in ("<script", "<style", " style=", " onclick=", "http://", "https://"):
        assert forbidden not in page


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/admin/login/", 200), ("/initech/", 404)])
def test_each_page_is_under_a_policy_that_allows_nothing_inline(client: Client, path: str, status: int) -> None:
    for response in (client.get(path), async_to_sync(AsyncClient().get)(path)):
        assert response.status_code == status
        policy = response["Content-Security-Policy"]
        assert "script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy


def test_browsers_find_the_icon_where_they_look_for_it(client: Client) -> None:
    assert client.get("/favicon.ico")["Location"] == "/static/helpcentre/icon.svg"


def test_the_pages_are_served_under_asgi_too(claude: ClaudeServer) -> None:
    visitor = AsyncClient()

    async def visits() -> list[str]:
        return [words(await visitor.post("/acme/ask/", {"question": QUESTION})) for _ in range(2)]

    assert [status_on(page) for page in async_to_sync(visits)()] == ["miss", "hit"]
    assert claude.count == 1
