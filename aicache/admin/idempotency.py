from __future__ import annotations

from typing import Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.answers import answered
from aicache.admin.confirmation import MOST, DeedAdmin, chosen
from aicache.admin.content import may_read
from aicache.admin.forgetting import PERMISSION, forget
from aicache.admin.frequent import ModelFilter, TenantFilter
from aicache.admin.keystates import LABELS, state
from aicache.admin.remembered import WhoseFilter, left, moment, over, pill, span
from aicache.models import IdempotencyKey

HEAVY: Final = ("payload", "parts")
"""Columns that a list does without: they may hold megabytes."""


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(LABELS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(stands=chosen) if chosen in LABELS else queryset


class KeyList(ChangeList):
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer(*HEAVY)


@admin.register(IdempotencyKey)
class IdempotencyAdmin(DeedAdmin):
    """The keys of the last hours. Forgetting one is a right of its own, beside that to look at it."""

    actions = ("forget",)
    change_form_template = "admin/aicache/idempotencykey/change_form.html"
    deeds: ClassVar = {"forget": PERMISSION}
    fields = ("name", "state", "whose", "model", "created", "answered", "expires", "answer")
    readonly_fields = fields
    list_display = ("name", "life", "whose", "model", "use")
    list_filter = (StateFilter, WhoseFilter, TenantFilter, ModelFilter)
    ordering = ("-pk",)
    lesson = gettext_lazy(
        "No key is kept. A call has one where its scope names it, as in aicache.scope(idempotency_key=…): the same "
        "request under it gets the same answer for a day."
    )
    search_fields = ("name", "tenant")
    search_help_text = gettext_lazy("Part of a key or of a tenant's name")

    @admin.display(description=gettext_lazy("state"), ordering="expires_at")
    def life(self, row: Any) -> SafeString:
        return over(self.state(row), left(row.expires_at))

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def use(self, row: IdempotencyKey) -> SafeString:
        taken = None if row.answered_at is None else span(row.answered_at - row.created_at)
        return over(moment(row.created_at), "" if taken is None else _("answered in %(span)s") % {"span": taken})

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Any) -> SafeString:
        return pill(row.stands, str(LABELS[row.stands]))

    @admin.display(description=gettext_lazy("created"))
    def created(self, row: IdempotencyKey) -> str:
        return moment(row.created_at)

    @admin.display(description=gettext_lazy("answered"))
    def answered(self, row: IdempotencyKey) -> str:
        return self.get_empty_value_display() if row.answered_at is None else moment(row.answered_at)

    @admin.display(description=gettext_lazy("expires"))
    def expires(self, row: IdempotencyKey) -> str:
        return moment(row.expires_at)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).annotate(stands=state())
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeyList

    def may(self, request: HttpRequest, verb: str) -> bool:
        return super().may(request, verb) and self.has_view_permission(request)

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "forget")

    @admin.action(description=gettext_lazy("Forget the selected keys…"), permissions=["forget"])
    def forget(self, request: HttpRequest, queryset: QuerySet[IdempotencyKey]) -> HttpResponse | None:
        return forget(self, request, list(queryset[: MOST + 1]))

    def asked(self, request: HttpRequest, verb: str) -> HttpResponse | None:
        return forget(self, request, chosen(request, self.get_queryset(request).defer(*HEAVY)))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: IdempotencyKey = context["original"]
        found: dict[str, Any] = {"is_answered": bool(row.answer), "may_read": may_read(request)}
        if found["may_read"]:
            found["answer"] = answered(bytes(row.payload or b""))
        return super().render_change_form(request, {**context, **found}, *args, **kwargs)
