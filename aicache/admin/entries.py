from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin import search
from aicache.admin.answers import answered, asked_for
from aicache.admin.briefs import Brief, briefs, seen
from aicache.admin.confirmation import MOST, DeedAdmin, chosen
from aicache.admin.entrypurge import PERMISSION, purge_of_entries
from aicache.admin.facts import say_silent
from aicache.admin.frequent import ModelFilter, PolicyFilter, TenantFilter
from aicache.admin.remembered import WhoseFilter, dollars, left, moment, over, pill, span
from aicache.admin.states import State, states
from aicache.core.tags import MEMBERS, Tag
from aicache.models import CacheEntry, InvalidationTag

HEAVY: Final = ("payload", "request", "sources")
"""Columns that a list does without: they may hold megabytes."""


class LifeFilter(admin.SimpleListFilter):
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


class EntryList(ChangeList):
    """A page of entries that knows what is known of them."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer(*HEAVY)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = list(self.result_list)
        found = briefs(rows)
        for row, brief, state in zip(rows, found, states(rows, [brief.glance for brief in found]), strict=True):
            row.brief, row.stands = brief, state
        self.result_list = rows


@admin.register(CacheEntry)
class EntryAdmin(DeedAdmin):
    """The copies of answers. Purging one is a right of its own, beside that to look at it."""

    actions = ("purge",)
    change_form_template = "admin/aicache/cacheentry/change_form.html"
    fields = (
        "key",
        "state",
        "whose",
        "model",
        "policy",
        "tokens",
        "cost",
        "created",
        "fresh",
        "expires",
        "hits",
        "hit",
    )
    readonly_fields = fields
    list_display = ("entry", "life", "kind", "price", "use")
    list_filter = (LifeFilter, WhoseFilter, TenantFilter, ModelFilter, PolicyFilter)
    ordering = ("-pk",)
    right = PERMISSION
    search_help_text = gettext_lazy("Part of a key, a tenant's name, a model's, a tag, or a request where it is kept")
    verb = "purge"

    @admin.display(description=gettext_lazy("entry"))
    def entry(self, row: Any) -> SafeString:
        brief: Brief = row.brief
        return over(brief.question or row, brief.answer)

    @admin.display(description=gettext_lazy("state"), ordering="expires_at")
    def life(self, row: CacheEntry) -> SafeString:
        return over(self.state(row), left(row.expires_at))

    @admin.display(description=gettext_lazy("whose, model"), ordering="tenant")
    def kind(self, row: CacheEntry) -> SafeString:
        return over(self.whose(row), ", ".join(filter(None, (row.model, row.policy))))

    @admin.display(description=gettext_lazy("tokens"), ordering="tokens")
    def price(self, row: CacheEntry) -> SafeString:
        return over(localize(row.tokens), self.cost(row))

    @admin.display(description=gettext_lazy("hits"), ordering="hits")
    def use(self, row: CacheEntry) -> SafeString:
        """How often it was served, and in how long."""
        return over(localize(row.hits), _("in %(span)s") % {"span": span(timezone.now() - row.created_at)})

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Any) -> SafeString:
        if not hasattr(row, "stands"):
            (row.stands,) = states([row], [seen(bytes(row.payload))])
        found: State = row.stands
        return pill(found.word, found.label)

    @admin.display(description=gettext_lazy("cost"))
    def cost(self, row: CacheEntry) -> str:
        return self.get_empty_value_display() if row.cost_usd is None else dollars(row.cost_usd)

    @admin.display(description=gettext_lazy("created"))
    def created(self, row: CacheEntry) -> str:
        return moment(row.created_at)

    @admin.display(description=gettext_lazy("fresh until"))
    def fresh(self, row: CacheEntry) -> str:
        return moment(row.fresh_until)

    @admin.display(description=gettext_lazy("expires"))
    def expires(self, row: CacheEntry) -> str:
        return moment(row.expires_at)

    @admin.display(description=gettext_lazy("last hit"))
    def hit(self, row: CacheEntry) -> str:
        return self.get_empty_value_display() if row.hit_at is None else moment(row.hit_at)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EntryList

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return search.FIELDS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search.entries(queryset, search_term), False

    def has_deed_permission(self, request: HttpRequest) -> bool:
        return super().has_deed_permission(request) and self.has_view_permission(request)

    @admin.action(description=gettext_lazy("Purge the selected answers…"), permissions=["deed"])
    def purge(self, request: HttpRequest, queryset: QuerySet[CacheEntry]) -> HttpResponse | None:
        return purge_of_entries(self, request, list(queryset[: MOST + 1]))

    def asked(self, request: HttpRequest) -> HttpResponse | None:
        return purge_of_entries(self, request, chosen(request, self.get_queryset(request).defer(*HEAVY)))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        say_silent(request)
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: CacheEntry = context["original"]
        say_silent(request)
        found = {
            "tags": self._tags(request, row),
            "answer": answered(bytes(row.payload)),
            "asked": None if row.request is None else asked_for(row.request),
        }
        return super().render_change_form(request, {**context, **found}, *args, **kwargs)

    def _tags(self, request: HttpRequest, row: CacheEntry) -> list[tuple[str, str]]:
        """The names that its users know, each with the address of its page, "" where there is none for this user."""
        tags = [Tag(name, row.owner) for name in row.tags if not name.endswith(MEMBERS)]
        listed = {}
        kind = InvalidationTag
        if self.admin_site.is_registered(kind) and self.admin_site.get_model_admin(kind).has_view_permission(request):
            rows = kind.objects.using(row._state.db).filter(digest__in=[tag.digest for tag in tags])
            listed = dict(rows.values_list("digest", "pk"))
        return [(tag.name, self._page_of(listed[tag.digest]) if tag.digest in listed else "") for tag in tags]

    def _page_of(self, pk: int) -> str:
        return reverse("admin:aicache_invalidationtag_change", args=[pk], current_app=self.admin_site.name)
