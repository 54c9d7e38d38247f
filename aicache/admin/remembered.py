"""What all pages have in common: they show what the database remembers, and change none of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from aicache.admin.content import may_look_up
from aicache.admin.owners import theirs
from aicache.admin.silence import told
from aicache.conf import get_settings
from aicache.core.tags import EVERYBODY
from aicache.freshness.databases import aliases
from aicache.sight import sight

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class DatabaseFilter(admin.SimpleListFilter):
    """Each database with registered models has rows of its own. Shown where there is more than one."""

    title = gettext_lazy("database")
    parameter_name = "db"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        databases = sorted(aliases())
        return [(alias, alias) for alias in databases] if len(databases) > 1 else []

    def choices(self, changelist: Any) -> Any:
        """Without one that stands for all: rows of two databases cannot be in one list."""
        chosen = self.value() or get_settings().database
        for alias, title in self.lookup_choices:
            yield {
                "selected": alias == chosen,
                "query_string": changelist.get_query_string({self.parameter_name: alias}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.using(chosen) if chosen in aliases() else queryset


class WhoseFilter(admin.SimpleListFilter):
    title = gettext_lazy("whose")
    parameter_name = "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        choices = [("everybody", _("everybody's")), ("tenant", _("one tenant's"))]
        return choices if sight(request).covers(EVERYBODY) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = {"everybody": True, "tenant": False}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(everybody=chosen)


class Owned(Protocol):
    everybody: bool
    tenant: str


class RememberedAdmin(ModelAdmin):
    """Read-only. Its rows are those of ``AICACHE["DATABASE"]``, until another database is chosen, and none that is out
    of the user's sight. ``lesson``: how rows come about, told while there are none."""

    actions_on_bottom = False
    lesson: str | Promise = ""
    list_per_page = 50
    search_fields = ("tag", "tenant")
    search_help_text = gettext_lazy("Part of a tag or of a tenant's name")
    show_facets = admin.ShowFacets.NEVER  # they would be counted across databases
    show_full_result_count = False

    class Media:
        css = {"all": ("aicache/admin.css",)}  # noqa: RUF012 - Django's own way

    @property
    def urls(self) -> list[URLPattern]:
        return [told(self, pattern) for pattern in self.get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return theirs(super().get_queryset(request).using(get_settings().database), sight(request))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        try:
            return super().get_changelist_instance(request)
        except DataError as error:  # such as a NUL in the address, which is in no text of PostgreSQL's
            raise IncorrectLookupParameters(error) from error

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return may_look_up(request, lookup) and super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("whose"), ordering="tenant")
    def whose(self, row: Owned) -> str:
        return whose(everybody=row.everybody, tenant=row.tenant)


def whose(*, everybody: bool, tenant: str) -> str:
    if everybody:
        return _("everybody's")
    return _("the site's") if get_settings().single_tenant else tenant or _("unknown")


def over(first: Any, then: Any) -> SafeString:
    """Two things in one cell, the lesser one below: a page has room for few columns."""
    return format_html('<span class="aicache-first">{}</span> <span class="aicache-then">{}</span>', first, then)


def pill(word: str, label: str) -> SafeString:
    """A state; ``word`` chooses its colour."""
    return format_html('<span class="aicache-state aicache-{}">{}</span>', word, label)


def left(until: datetime) -> str:
    """How far off that is, to come or gone by."""
    more = until - timezone.now()
    if more.total_seconds() > 0:
        return _("%(span)s left") % {"span": span(more)}
    return _("%(span)s ago") % {"span": span(-more)}


def moment(at: datetime) -> str:
    """In short, by the reader's clock: a list has many of them side by side."""
    return date_format(timezone.localtime(at) if timezone.is_aware(at) else at, "SHORT_DATETIME_FORMAT")


def span(length: timedelta) -> str:
    """A length of time as people say it, by its largest unit."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 1:
        return _("%(number)d ms") % {"number": seconds * 1000}
    if seconds < 60:
        return _("%(number)d s") % {"number": seconds}
    if seconds < 3600:
        return _("%(number)d min") % {"number": seconds // 60}
    if seconds < 2 * 86400:
        return _("%(number)d h") % {"number": seconds // 3600}
    days = int(seconds // 86400)
    return ngettext("%(number)d day", "%(number)d days", days) % {"number": days}
