from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from aicache.admin.facts import Facts, facts, say_silent
from aicache.admin.purging import MOST, PERMISSION, chosen, purge_of_form, purge_of_rows
from aicache.admin.remembered import DatabaseFilter, RememberedAdmin, WhoseFilter, moment
from aicache.models import InvalidationTag


class TagList(ChangeList):
    """A page of tags that knows what is known of them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = list(self.result_list)
        for row, known in zip(rows, facts(rows), strict=True):
            row.facts = known
        self.result_list = rows


def _facts(row: Any) -> Facts:
    if not hasattr(row, "facts"):
        (row.facts,) = facts([row])
    known: Facts = row.facts
    return known


@admin.register(InvalidationTag)
class TagAdmin(RememberedAdmin):
    """The tags in use. Purging is a right of its own: whoever may only look cannot."""

    actions = ("purge",)
    fields = ("tag", "whose", "answers", "generation", "last", "seen_at")
    readonly_fields = fields
    list_display = ("tag", "whose", "answers", "generation", "last")
    list_filter = (WhoseFilter, DatabaseFilter)
    ordering = ("tag", "-everybody", "tenant")

    @admin.display(description=gettext_lazy("answers"))
    def answers(self, row: InvalidationTag) -> str:
        """How many hang on it."""
        number = _facts(row).answers
        return "?" if number is None else localize(number)

    @admin.display(description=gettext_lazy("generation"))
    def generation(self, row: InvalidationTag) -> int:
        """How often it was invalidated."""
        return _facts(row).generation

    @admin.display(description=gettext_lazy("last invalidation"))
    def last(self, row: InvalidationTag) -> SafeString | None:
        at = _facts(row).last
        if at is None:
            return None
        address = reverse("admin:aicache_invalidation_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?digest={}">{}</a>', address, row.digest, moment(at))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TagList

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.purge_view)
        return [path("purge/", view, name="aicache_invalidationtag_purge"), *super().get_urls()]

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    @admin.action(description=gettext_lazy("Purge the selected tags…"), permissions=["purge"])
    def purge(self, request: HttpRequest, queryset: QuerySet[InvalidationTag]) -> HttpResponse | None:
        return purge_of_rows(self, request, list(queryset[: MOST + 1]))

    @transaction.non_atomic_requests  # so that the page can say whether the purge is in force
    def purge_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_purge_permission(request):
            raise PermissionDenied
        if rows := chosen(request):
            return purge_of_rows(self, request, rows) or redirect("admin:aicache_invalidationtag_changelist")
        return purge_of_form(self, request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        say_silent(request)
        return super().changelist_view(request, {**(extra_context or {}), **self._purging(request)})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), **self._purging(request)}
        return super().change_view(request, object_id, form_url, context)

    def _purging(self, request: HttpRequest) -> dict[str, Any]:
        return {"has_purge_permission": self.has_purge_permission(request)}
