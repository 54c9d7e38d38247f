"""What cannot be undone is shown first, and done when that is confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy

from aicache.admin.remembered import RememberedAdmin
from aicache.sight import sight

MOST: Final = 200  # rows at a time: a page that can be read, and a form that Django accepts
GONE: Final = gettext_lazy("What was chosen is not there any more.")
LONGEST_ID: Final = 18  # digits, which every database takes for a number of 64 bits


@dataclass(frozen=True, slots=True)
class Deed:
    """``verb``: what it is called in addresses. ``hidden``: what the confirmation sends back, so that the same is done
    that was shown. ``shown``: what is asked for only where the page is. ``act``: does it, and gives the level and the
    words of what is to be said of it. ``stays``: what it is done with is there afterwards."""

    verb: str
    title: str
    template: str
    hidden: Sequence[tuple[str, str]]
    shown: Callable[[], dict[str, Any]]
    act: Callable[[], tuple[int, str]]
    stays: bool = False


class DeedAdmin(RememberedAdmin):
    """Rows that something can be done with, by actions and at addresses of their own. ``deeds``: by the name of each,
    the right to it; to look at the rows is another."""

    deeds: ClassVar[Mapping[str, str]]

    def asked(self, request: HttpRequest, verb: str) -> HttpResponse | None:
        """Asks whether what the request names is meant, or does it. None: it cannot be, and a message says why."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.deed_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [path(f"{verb}/", view, {"verb": verb}, name=f"{name}_{verb}") for verb in self.deeds]
        return [*own, *super().get_urls()]

    def may(self, request: HttpRequest, verb: str) -> bool:
        return request.user.has_perm(self.deeds[verb]) and not sight(request).is_nothing

    @transaction.non_atomic_requests  # so that the page can say whether what was done is in force
    def deed_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        if not self.may(request, verb):
            raise PermissionDenied
        return self.asked(request, verb) or redirect(address(self, "changelist"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), **self._offered(request)})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        return super().render_change_form(request, {**context, **self._offered(request)}, *args, **kwargs)

    def _offered(self, request: HttpRequest) -> dict[str, Any]:
        return {"deeds": {verb: address(self, verb) for verb in self.deeds if self.may(request, verb)}}


def is_confirmed(request: HttpRequest) -> bool:
    return request.method == "POST" and "confirmed" in request.POST


def confirmed(admin: DeedAdmin, request: HttpRequest, deed: Deed) -> HttpResponse:
    """Asks whether it is meant; does it where that is the answer."""
    if is_confirmed(request):
        level, told = deed.act()
        admin.message_user(request, told, level)
        return HttpResponseRedirect(_back(admin, request, stays=deed.stays))
    context = {
        "title": deed.title,
        "hidden": deed.hidden,
        "media": admin.media,
        "back_url": _back(admin, request),
        "came_from": request.GET.urlencode(),
        **deed.shown(),
    }
    return page(admin, request, deed.verb, deed.template, context)


def _back(admin: DeedAdmin, request: HttpRequest, *, stays: bool = True) -> str:
    """To where the deed was chosen: the row's own page, which has named it in the query, or the list as it was
    narrowed; to the whole list where that page is gone."""
    listed = address(admin, "changelist")
    if "id" not in request.GET:
        return f"{listed}?{request.GET.urlencode()}" if request.GET else listed
    own = request.GET["id"]
    return address(admin, "change", own) if stays and own.isdecimal() else listed


def page(admin: DeedAdmin, request: HttpRequest, verb: str, template: str, context: dict[str, Any]) -> HttpResponse:
    request.current_app = admin.admin_site.name  # the admin's own way
    around = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "deed_url": address(admin, verb),
        "list_url": address(admin, "changelist"),
    }
    return TemplateResponse(request, f"admin/aicache/{template}", {**around, **context})


def address(admin: Any, view: str, *arguments: str) -> str:
    """Of a view of this very admin, whatever the name of its site."""
    opts = admin.opts
    name = f"admin:{opts.app_label}_{opts.model_name}_{view}"
    return reverse(name, args=arguments, current_app=admin.admin_site.name)


def chosen(request: HttpRequest, rows: QuerySet[Any]) -> list[Any]:
    """Those of the rows that a request names by their ids; one more than MOST at most."""
    given = request.POST if request.method == "POST" else request.GET
    ids = [found for found in given.getlist("id") if found.isdecimal() and len(found) <= LONGEST_ID]
    return list(rows.filter(pk__in=ids[: MOST + 1]))


def write_down(
    request: HttpRequest, model: type[Model], flag: int, done: Iterable[tuple[str | None, str, str]]
) -> None:
    """In the admin's own log, as this user's deed; of each the id, the name, and what was done."""
    kind = ContentType.objects.get_for_model(model)
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=str(request.user.pk),
            content_type=kind,
            object_id=pk,
            object_repr=name[:200],
            action_flag=flag,
            change_message=message,
        )
        for pk, name, message in done
    )
