from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from example_project.helpcentre.answers import NoAnswer
from example_project.helpcentre.answers import ask as ask_claude
from example_project.helpcentre.card import Card
from example_project.helpcentre.forms import QuestionForm
from example_project.helpcentre.models import Article
from example_project.helpcentre.tenancy import Tenant

SUGGESTIONS = (_("Can I get my money back?"), _("How long does delivery take?"), _("When are you open?"))


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


@require_safe
def article(request: HttpRequest, tenant: Tenant, pk: int) -> HttpResponse:
    found = get_object_or_404(Article, tenant=tenant.slug, pk=pk)
    return render(request, "helpcentre/article.html", {"tenant": tenant, "article": found})


@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    form = QuestionForm(request.POST if request.method == "POST" else None)
    page = {"tenant": tenant, "form": form, "suggestions": SUGGESTIONS}
    if not form.is_valid():
        return render(request, "helpcentre/ask.html", page, status=422 if form.is_bound else 200)
    try:
        answer = ask_claude(tenant, **form.cleaned_data)
    except NoAnswer as failed:
        page["card"] = Card.of(failed)
        return render(request, "helpcentre/ask.html", page, status=502)
    return render(request, "helpcentre/ask.html", {**page, "answer": answer, "card": Card.of(answer)})
