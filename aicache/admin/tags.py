from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.confirmation import MOST, DeedAdmin
from aicache.admin.facts import Facts, facts, owner_of, say_silent, tag_of
from aicache.admin.losses import losses
from aicache.admin.remembered import DatabaseFilter, WhoseFilter, moment, over
from aicache.admin.tagpurge import PERMISSION, chosen, purge_of_form, purge_of_rows
from aicache.core.tags import MEMBERS, OURS
from aicache.models import CacheEntry, Invalidation, InvalidationTag


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
class TagAdmin(DeedAdmin):
    """The tags in use. Purging is a right of its own: whoever may only look cannot."""

    actions = ("purge",)
    deeds: ClassVar = {"purge": PERMISSION}
    fields = ("name", "whose", "answers", "generation", "last", "seen")
    readonly_fields = fields
    list_display = ("name", "whose", "answers", "generation", "last")
    list_filter = (WhoseFilter, DatabaseFilter)
    ordering = ("tag", "-everybody", "tenant")
    lesson = gettext_lazy(
        "No tag is in use. Answers hang on what their scope names, as in aicache.scope(sources=[article], "
        'tags=["prices"]); tags are listed here some seconds later.'
    )

    @admin.display(description=gettext_lazy("tag"), ordering="tag")
    def name(self, row: InvalidationTag) -> SafeString | str:
        if not row.tag.endswith(MEMBERS):
            return row.tag
        return over(row.tag, _("any row of %(model)s") % {"model": row.tag.removesuffix(MEMBERS)})

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
    def last(self, row: InvalidationTag) -> SafeString | str:
        """When, and by whom or what."""
        last = _facts(row).last
        if last is None:
            return self.get_empty_value_display()
        at = moment(last.at)
        if not self.admin_site.is_registered(Invalidation):
            return over(at, last.cause)
        address = reverse("admin:aicache_invalidation_changelist", current_app=self.admin_site.name)
        return over(format_html('<a href="{}?digest={}">{}</a>', address, row.digest, at), last.cause)

    @admin.display(description=gettext_lazy("last seen"))
    def seen(self, row: InvalidationTag) -> str:
        return moment(row.seen_at)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those of the site's: each answer that was purged by itself has left one of ours."""
        return super().get_queryset(request).exclude(tag__startswith=OURS)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TagList

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "purge")

    @admin.action(description=gettext_lazy("Purge the selected tags…"), permissions=["purge"])
    def purge(self, request: HttpRequest, queryset: QuerySet[InvalidationTag]) -> HttpResponse | None:
        return purge_of_rows(self, request, list(queryset[: MOST + 1]))

    def asked(self, request: HttpRequest, verb: str) -> HttpResponse | None:
        rows = chosen(request) if self.has_view_permission(request) else []
        return purge_of_rows(self, request, rows) if rows else purge_of_form(self, request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        say_silent(request)
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: InvalidationTag = context["original"]
        say_silent(request)
        answers = _facts(row).answers
        lost = losses([tag_of(row)], [answers])
        found = {
            "answers": answers,
            "loss": None if lost is None else lost.each[0],
            "entries": self._entries(request, row),
        }
        return super().render_change_form(request, {**context, **found}, *args, **kwargs)

    def _entries(self, request: HttpRequest, row: InvalidationTag) -> str:
        """The list of the copies that hang on it. "": there is none for this user, or none of this owner's alone."""
        site = self.admin_site
        owner = owner_of(row)
        if owner is None or not site.is_registered(CacheEntry):
            return ""
        if not site.get_model_admin(CacheEntry).has_view_permission(request):
            return ""
        whose = {"tenant": row.tenant} if row.tenant and not row.everybody else {}
        asked = urlencode({"tag": row.tag, "life": "on", **whose})
        return f"{reverse('admin:aicache_cacheentry_changelist', current_app=site.name)}?{asked}"
