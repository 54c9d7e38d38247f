from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin import judging, refreshing, search
from aicache.admin.answers import answered, asked_for, parsed
from aicache.admin.briefs import Brief, briefs, seen
from aicache.admin.confirmation import MOST, DeedAdmin, chosen
from aicache.admin.content import may_read
from aicache.admin.entryfilters import AgeFilter, LifeFilter, TagFilter
from aicache.admin.entrypurge import PERMISSION, purge_of_entries
from aicache.admin.facts import say_silent
from aicache.admin.figures import dollars
from aicache.admin.frequent import ModelFilter, PolicyFilter, TenantFilter
from aicache.admin.keyed import keyed
from aicache.admin.pasts import pasts
from aicache.admin.remembered import WhoseFilter, left, moment, over, pill, span
from aicache.admin.states import State, states
from aicache.admin.uses import uses
from aicache.conf import get_settings
from aicache.models import CacheEntry

WITH_WORDS: Final = gettext_lazy("Part of a key, a tenant's name, a model's, a tag, or a request where it is kept")
HEAVY: Final = ("payload", "request", "sources")
"""Columns that a list does without: they may hold megabytes."""


class EntryList(ChangeList):
    """A page of entries that knows what is known of them."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        return super().get_queryset(request, exclude_parameters).defer(*HEAVY)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = list(self.result_list)
        found = briefs(rows, words=may_read(request))
        for row, brief, state in zip(rows, found, states(rows, [brief.glance for brief in found]), strict=True):
            row.brief, row.stands = brief, state
        self.result_list = rows


@admin.register(CacheEntry)
class EntryAdmin(DeedAdmin):
    """The copies of answers. Purging one is a right of its own, beside that to look at it."""

    actions = ("purge", "wrong", "right")
    change_form_template = "admin/aicache/cacheentry/change_form.html"
    deeds: ClassVar = {
        "purge": PERMISSION,
        "wrong": judging.PERMISSION,
        "right": judging.PERMISSION,
        "refresh": refreshing.PERMISSION,
    }
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
        "checked",
    )
    readonly_fields = fields
    list_display = ("entry", "life", "kind", "price", "use")
    list_filter = (LifeFilter, AgeFilter, TagFilter, WhoseFilter, TenantFilter, ModelFilter, PolicyFilter)
    ordering = ("-pk",)
    lesson = gettext_lazy(
        "No answer is kept. What is asked through a wrapped client, inside a scope that says whose it is, is listed "
        'here about a second later, unless AICACHE["DURABLE"] is off.'
    )
    search_help_text = gettext_lazy("Part of a key, a tenant's name, a model's, or a tag")

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
        found = self._stands(row)
        return pill(found.word, found.label)

    def _stands(self, row: Any) -> State:
        if not hasattr(row, "stands"):
            (row.stands,) = states([row], [seen(bytes(row.payload))])
        found: State = row.stands
        return found

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

    @admin.display(description=gettext_lazy("checked"))
    def checked(self, row: CacheEntry) -> str:
        mark = judging.last_mark(row)
        if mark is None:
            return self.get_empty_value_display()
        told = {"moment": moment(mark.action_time), "user": mark.user.get_username()}
        return _("right, %(moment)s, by %(user)s") % told

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        found = super().get_changelist_instance(request)
        if may_read(request):
            found.search_help_text = str(WITH_WORDS)
        return found

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EntryList

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return search.FIELDS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search.entries(queryset, search_term, words=may_read(request)), False

    def may(self, request: HttpRequest, verb: str) -> bool:
        if verb == "refresh" and get_settings().refresh is None:
            return False
        return super().may(request, verb) and self.has_view_permission(request)

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "purge")

    def has_mark_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "wrong")

    @admin.action(description=gettext_lazy("Purge the selected answers…"), permissions=["purge"])
    def purge(self, request: HttpRequest, queryset: QuerySet[CacheEntry]) -> HttpResponse | None:
        return self._asked(request, "purge", queryset[: MOST + 1])

    @admin.action(description=gettext_lazy("Mark the selected answers as wrong…"), permissions=["mark"])
    def wrong(self, request: HttpRequest, queryset: QuerySet[CacheEntry]) -> HttpResponse | None:
        return self._asked(request, "wrong", queryset[: MOST + 1])

    @admin.action(description=gettext_lazy("Mark the selected answers as right…"), permissions=["mark"])
    def right(self, request: HttpRequest, queryset: QuerySet[CacheEntry]) -> HttpResponse | None:
        return self._asked(request, "right", queryset[: MOST + 1])

    def asked(self, request: HttpRequest, verb: str) -> HttpResponse | None:
        rows = self.get_queryset(request)
        if verb == "refresh":
            return refreshing.refresh(self, request, chosen(request, rows)[:2])
        return self._asked(request, verb, chosen(request, rows.defer(*HEAVY)))

    def _asked(self, request: HttpRequest, verb: str, rows: Iterable[CacheEntry]) -> HttpResponse | None:
        if verb == "purge":
            return purge_of_entries(self, request, list(rows))
        return judging.judge(self, request, list(rows), wrong=verb == "wrong")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        say_silent(request)
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: CacheEntry = context["original"]
        say_silent(request)
        glance, reads = seen(bytes(row.payload)), may_read(request)
        asked = row.request if reads else None
        found: dict[str, Any] = {
            "may_read": reads,
            "can_refresh": refreshing.is_offered(row, self._stands(row)),
            "keyed": keyed(row, None if asked is None else parsed(asked), self.get_queryset(request)),
            "uses": uses(row),
            "pasts": pasts(self.admin_site, request, row, glance.generations if glance else None),
        }
        if reads:
            found["answer"] = answered(bytes(row.payload))
            found["asked"] = None if asked is None else asked_for(asked)
        return super().render_change_form(request, {**context, **found}, *args, **kwargs)
