"""By what entries are filtered that no column holds as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.hanging import hanging_on

AGES: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


class LifeFilter(admin.SimpleListFilter):
    """Whether one was invalidated is no question for SQL: its payload holds how often its tags had died by then."""

    title = gettext_lazy("life")
    parameter_name = "life"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("on", _("not expired")), ("over", _("expired"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "on":
                return queryset.filter(expires_at__gt=timezone.now())
            case "over":
                return queryset.filter(expires_at__lte=timezone.now())
        return queryset


class AgeFilter(admin.SimpleListFilter):
    title = gettext_lazy("age")
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("hour", _("made in the last hour")),
            ("day", _("made in the last day")),
            ("week", _("made in the last 7 days")),
            ("older", _("older")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen, now = self.value(), timezone.now()
        if chosen == "older":
            return queryset.filter(created_at__lt=now - AGES["week"])
        return queryset.filter(created_at__gte=now - AGES[chosen]) if chosen in AGES else queryset


class TagFilter(admin.SimpleListFilter):
    """By a whole name, which is typed: there may be as many tags as there are rows behind them."""

    title = gettext_lazy("tag")
    parameter_name = "tag"
    template = "admin/aicache/cacheentry/tag_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """One: what a form needs that changes nothing else that is chosen."""
        others = changelist.get_query_string(remove=[self.parameter_name, "p"]).removeprefix("?")
        yield {
            "value": self.value() or "",
            "others": parse_qsl(others),
            "without": f"?{others}",
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return hanging_on(queryset, [chosen]) if chosen else queryset
