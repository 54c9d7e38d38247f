from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

import aicache
from example_project.helpcentre.answers import Answer, NoAnswer
from example_project.helpcentre.answers import ask as ask_claude
from example_project.helpcentre.card import Card
from example_project.helpcentre.conflict import Conflict
from example_project.helpcentre.forms import QuestionForm
from example_project.helpcentre.models import Article
from example_project.helpcentre.tenancy import Tenant

SUGGESTIONS = (_("Can I get my money back?"), _("How long does delivery take?"), _("When are you open?"))
OF_ONE = (_("What does this say, in one sentence?"), _("Are there exceptions?"))


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "helpcentre/home.html")


@require_safe
def articles(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    listed = Article.objects.filter(tenant=tenant.slug)
    return render(
        request,
        "helpcentre/articles.html",
        {"tenant": tenant, "articles": listed, "form": QuestionForm(), "suggestions": SUGGESTIONS},
    )


@require_http_methods(["GET", "HEAD", "POST"])
def article(request: HttpRequest, tenant: Tenant, pk: int) -> HttpResponse:
    """Questions about it alone are asked on its own page."""
    found = get_object_or_404(Article, tenant=tenant.slug, pk=pk)
    page = {"tenant": tenant, "article": found, "suggestions": OF_ONE}
    return _asked(request, "helpcentre/article.html", page, tenant, found)


@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    return _asked(request, "helpcentre/ask.html", {"tenant": tenant, "suggestions": SUGGESTIONS}, tenant)


def _asked(
    request: HttpRequest, template: str, page: dict[str, Any], tenant: Tenant, about: Article | None = None
) -> HttpResponse:
    """The page with the form, and with the answer where a question was asked."""
    form = QuestionForm(request.POST if request.method == "POST" else None)
    page["form"] = form
    if not form.is_valid():
        return render(request, template, page, status=422 if form.is_bound else 200)
    try:
        answer, page["conflict"] = _answer(tenant, about, **form.cleaned_data)
    except NoAnswer as failed:
        return render(request, template, {**page, "card": Card.of(failed)}, status=502)
    card = Card.of(answer, form.cleaned_data["idempotency_key"])
    return render(request, template, {**page, "answer": answer, "card": card})


def _answer(tenant: Tenant, about: Article | None, **asked: Any) -> tuple[Answer, Conflict | None]:
    """Where the form had been sent before with something else in it, it is asked under another key. Raises NoAnswer."""
    try:
        return ask_claude(tenant, article=about, **asked), None
    except aicache.IdempotencyConflict as conflict:
        asked["idempotency_key"] = str(uuid.uuid4())
        return ask_claude(tenant, article=about, **asked), Conflict.of(conflict)
