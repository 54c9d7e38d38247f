from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.db.models import Case, Count, IntegerField, Min, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from aicache.admin.facts import say_silent
from aicache.admin.owners import theirs
from aicache.admin.remembered import DatabaseFilter, RememberedAdmin, WhoseFilter, moment, span
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.freshness.databases import aliases
from aicache.models import Invalidation
from aicache.sight import Sight, sight

PENDING_FIRST: Final = Case(
    When(applied_at__isnull=True, then=Value(0)), default=Value(1), output_field=IntegerField()
).asc()


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("pending", _("pending")), ("applied", pgettext("state", "applied"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        states = {"pending": True, "applied": False}
        chosen = states.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(applied_at__isnull=chosen)


class InvalidationList(ChangeList):
    """Pending ones first. While nothing is, the order is an index's: else a long table is sorted for each page."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        ordering: list[Any] = super().get_ordering(request, queryset)
        if not self.params.get(ORDER_VAR) and queryset.filter(applied_at=None).exists():
            return [PENDING_FIRST, *ordering]
        return ordering


@admin.register(Invalidation)
class InvalidationAdmin(RememberedAdmin):
    """Pending ones first, then the newest."""

    fields = ("name", "whose", "cause", "made", "applied", "delay")
    readonly_fields = fields
    list_display = fields
    list_filter = (StateFilter, WhoseFilter, DatabaseFilter)
    ordering = ("-pk",)
    lesson = gettext_lazy(
        "Nothing was invalidated. Saving a row of a registered model does that, and so do aicache.invalidate() and a "
        "purge."
    )

    @admin.display(description=gettext_lazy("tag"), ordering="tag")
    def name(self, row: Invalidation) -> str:
        answer = Tag(row.tag, "").answer
        return row.tag if answer is None else _("one answer (%(key)s)") % {"key": answer[-1][:12]}

    @admin.display(description=gettext_lazy("made"), ordering="made_at")
    def made(self, row: Invalidation) -> str:
        return moment(row.made_at)

    @admin.display(description=gettext_lazy("applied"), ordering="applied_at")
    def applied(self, row: Invalidation) -> str:
        if row.applied_at is not None:
            return moment(row.applied_at)
        return format_html('<strong class="aicache-pending">{}</strong>', _("pending"))

    @admin.display(description=gettext_lazy("delay"))
    def delay(self, row: Invalidation) -> str:
        return span((row.applied_at or timezone.now()) - row.made_at)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return InvalidationList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        say_silent(request)
        return super().changelist_view(request, {**(extra_context or {}), "pending": pending(sight(request))})


@dataclass(frozen=True, slots=True)
class Pending:
    """``elsewhere``: the database, "" of the site's own."""

    number: int
    age: timedelta
    elsewhere: str

    @property
    def told(self) -> str:
        """How old the oldest is."""
        return span(self.age)


def pending(seen: Sight) -> list[Pending]:
    """For each database that has any in sight: how many, and since when."""
    now = timezone.now()
    found = []
    for alias in sorted(aliases()):
        waiting = theirs(Invalidation.objects.using(alias).filter(applied_at=None), seen)
        counted = waiting.aggregate(number=Count("pk"), oldest=Min("made_at"))
        if counted["number"]:
            elsewhere = "" if alias == get_settings().database else alias
            found.append(Pending(counted["number"], now - counted["oldest"], elsewhere))
    return found
