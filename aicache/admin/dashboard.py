"""What the cache saved, how often it was stale, how often wrong, and what is paid twice: of each tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin import costs, sheet
from aicache.admin.confirmation import address
from aicache.admin.figures import number, usd
from aicache.admin.nameless import called, meant
from aicache.admin.remembered import RememberedAdmin
from aicache.admin.tiles import tiles
from aicache.admin.troubles import troubles
from aicache.conf import get_settings
from aicache.ledger import rows, stats
from aicache.ledger.histogram import Histogram
from aicache.ledger.report import PERIODS, Hotspot, Report
from aicache.ledger.stats import NOTHING, Figures
from aicache.models import CacheEntry, InvalidationTag, MetricBucket
from aicache.sight import Sight, sight

USUAL: Final = "24h"
TITLES: Final = {
    "1h": gettext_lazy("1 hour"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
    "90d": gettext_lazy("90 days"),
}
REFRESH: Final = {"1h": 2, "24h": 4, "7d": 15, "30d": 15, "90d": 15}
"""Seconds between looks, of a page that is looked at."""
NO_WORDS: Final[Mapping[str, str]] = {}


class Asked:
    """What is to be shown, of what its reader may see. ``tenant``: by name; "" is all."""

    def __init__(self, request: HttpRequest, seen: Sight) -> None:
        chosen = request.GET.get("period", USUAL)
        self.period = PERIODS[chosen if chosen in PERIODS else USUAL]
        self.tenant = meant(request.GET.get("tenant", ""))
        self.owners = seen.owners
        if self.tenant:
            owner = stats.owner_called(self.tenant)
            self.owners = frozenset({owner} if seen.covers(owner) else ())

    @property
    def called(self) -> str:
        return called(self.tenant)

    @property
    def report(self) -> Report:
        return Report(get_settings().database, self.period, self.owners)


@admin.register(MetricBucket)
class DashboardAdmin(RememberedAdmin):
    """The list of figures is a page that answers questions."""

    class Media:
        css = {"all": ("aicache/dashboard.css",)}  # noqa: RUF012 - Django's own way

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("aicache.view_dashboard")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """A row by itself says nothing."""
        views = {"changelist": ("", self.page), "pulse": ("pulse/", self.pulse), "export": ("export/", self.export)}
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path(place, self.admin_site.admin_view(view), name=f"{name}_{called}")
            for called, (place, view) in views.items()
        ]

    def page(self, request: HttpRequest) -> HttpResponse:
        asked, seen = self._asked(request)
        request.current_app = self.admin_site.name  # the admin's own way
        context = {
            **self.admin_site.each_context(request),
            "title": _("Dashboard"),
            "opts": self.opts,
            "media": self.media,
            "asked": asked,
            "periods": [(name, title, name == asked.period.name) for name, title in TITLES.items()],
            "refresh": REFRESH[asked.period.name],
            "export_url": f"{address(self, 'export')}?{request.GET.urlencode()}",
            "pulse_url": f"{address(self, 'pulse')}?{request.GET.urlencode()}",
            **self._found(request, asked, seen),
        }
        return TemplateResponse(request, "admin/aicache/dashboard/page.html", context)

    def pulse(self, request: HttpRequest) -> HttpResponse:
        """Whether there is anything new: asked every other second."""
        asked, _seen = self._asked(request)
        using = get_settings().database
        try:
            rows.find_place(using)
        except rows.NoPlace:
            return JsonResponse({"counted": 0, "in_flight": number(0)})
        counted, in_flight = stats.pulse(using, asked.owners)
        return JsonResponse({"counted": counted, "in_flight": number(in_flight)})

    def export(self, request: HttpRequest) -> HttpResponse:
        asked, _seen = self._asked(request)
        try:
            rows.find_place(asked.report.using)
            found = asked.report.tenants()
        except rows.NoPlace:
            found = []
        return sheet.as_csv(f"aicache-{asked.period.name}", map(sheet.line, found))

    def _asked(self, request: HttpRequest) -> tuple[Asked, Sight]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        seen = sight(request)
        return Asked(request, seen), seen

    def _found(self, request: HttpRequest, asked: Asked, seen: Sight) -> dict[str, Any]:
        report = asked.report
        try:
            rows.find_place(report.using)
        except rows.NoPlace as trouble:
            return {"nowhere": trouble.told}
        series = report.series()
        whole: Figures = reduce(add, (figures for _at, figures in series), NOTHING)
        parts = report.by_policy_and_model()
        misses = report.hotspots("miss")
        words = costs.questions(request, seen, misses)
        return {
            "troubles": list(troubles(seen, stats.lost(report.using, report.begin))),
            "tiles": list(tiles(whole, stats.in_flight(report.using, asked.owners))),
            "series": _series(series, report.step),
            "points": [sheet.point(at, report.step, figures) for at, figures in series],
            "point_heads": sheet.point_heads(),
            "heads": sheet.heads(),
            "lines": [sheet.line(tenant) for tenant in report.tenants()],
            "is_empty": not whole.calls and not whole["upstream_calls"],
            "short_lives": list(costs.short_lives(parts)),
            "models": list(costs.models(parts)),
            "misses": self._spots(misses, CacheEntry, lambda spot: spot.key, words),
            "tags": self._spots(report.hotspots("tag"), InvalidationTag, lambda spot: spot.told),
            "prefixes": self._spots(report.hotspots("prefix")),
        }

    def _spots(
        self,
        found: Sequence[Hotspot],
        model: Any = None,
        by: Callable[[Hotspot], str] = str,
        words: Mapping[str, str] = NO_WORDS,
    ) -> list[dict[str, Any]]:
        """``model``: whose list tells more of each, when it is searched ``by`` that. ``words``: those of questions,
        by the keys of their answers."""
        url = ""
        if model is not None and self.admin_site.is_registered(model):
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
            url = reverse(name, current_app=self.admin_site.name)
        return [
            {
                "whose": f"{called(spot.label)}, {spot.told}" if spot.key in words else called(spot.label),
                "told": words.get(spot.key) or (f"{spot.key[:12]} · {spot.told}" if model is CacheEntry else spot.told),
                "times": number(spot.times),
                "usd": usd(spot.nano_usd),
                "url": url,
                "q": by(spot) if url else "",
            }
            for spot in found
        ]


def _series(series: Sequence[tuple[int, Figures]], step: int) -> dict[str, Any]:
    """For the charts: dollars, and seconds."""
    found = [figures for _at, figures in series]
    hits = [Histogram.of_hits(figures.numbers) for figures in found]
    upstream = [Histogram.of_upstream(figures.numbers) for figures in found]
    passed = ("bypass", "unscoped", "degraded", "error")
    return {
        "at": [at for at, _figures in series],
        "step": step,
        "calls": {
            **{
                name: [figures[name] for figures in found] for name in ("hit", "stale", "semantic", "coalesced", "miss")
            },
            "other": [sum(figures[name] for name in passed) for figures in found],
        },
        "times": {
            "hit50": [times.quantile(0.5) for times in hits],
            "hit95": [times.quantile(0.95) for times in hits],
            "upstream50": [times.quantile(0.5) for times in upstream],
            "upstream95": [times.quantile(0.95) for times in upstream],
        },
        "dollars": {
            "saved": [float(figures.net_usd) for figures in found],
            "spent": [float(figures.usd("spent")) for figures in found],
            "redundant": [float(figures.usd("redundant")) for figures in found],
        },
    }
