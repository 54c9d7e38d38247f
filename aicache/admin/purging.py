"""Purging in the admin: what is to die is named, shown, and dies when that is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from aicache.admin.facts import owner_of, tag_of
from aicache.admin.remembered import whose
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.freshness.databases import aliases
from aicache.freshness.options import LONGEST_TAG
from aicache.models import InvalidationTag
from aicache.purge import Outcome, Purge, carry_out, sizes
from aicache.purge import whose as owner_named
from aicache.tenants import Everybody, Tenant

PERMISSION: Final = "aicache.purge_tag"
MOST: Final = 200  # tags at a time: a page that can be read, and a form that Django accepts
LONGEST_ID: Final = 18  # digits, which every database takes for a number of 64 bits


class PurgeForm(forms.Form):
    # Spaces are part of a name, of a tenant's too: without them another one would die.
    tag = forms.CharField(
        strip=False,
        label=gettext_lazy("Tag"),
        help_text=gettext_lazy(
            "Such as shop.product:42 for one row, shop.product for all of them, or a name of yours."
        ),
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True, "spellcheck": "false"}),
    )
    whose = forms.ChoiceField(
        label=gettext_lazy("Whose answers"),
        choices=[("tenant", gettext_lazy("one tenant's")), ("everybody", gettext_lazy("everybody's, of all tenants"))],
        initial="tenant",
        widget=forms.RadioSelect(attrs={"class": "radiolist"}),
    )
    tenant = forms.CharField(
        strip=False,
        label=gettext_lazy("Tenant"),
        help_text=gettext_lazy("As the site's code names it: mostly its primary key."),
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if get_settings().single_tenant:
            del self.fields["whose"], self.fields["tenant"]

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        try:
            size = len(tag.encode())
        except UnicodeEncodeError:
            raise ValidationError(_("This cannot be a tag.")) from None
        if size > LONGEST_TAG:
            raise ValidationError(_("At most %(most)d bytes; this has %(size)d.") % {"most": LONGEST_TAG, "size": size})
        return tag

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("whose") == "tenant" and not given.get("tenant"):
            self.add_error("tenant", _("Name the tenant, or choose everybody's."))
        return given

    def purge(self) -> Purge:
        """What a valid form asks for."""
        given = self.cleaned_data
        everybody = given.get("whose") == "everybody"
        tenant = None if everybody else given.get("tenant")
        return Purge.of([given["tag"]], owner_named(tenant, all_tenants=everybody))


def purge_of_form(admin: Any, request: HttpRequest) -> HttpResponse:
    """Asks for a tag, then whether it is meant, then purges."""
    form = PurgeForm(request.POST or None, initial={"tag": request.GET.get("tag", "")})
    if not (request.method == "POST" and form.is_valid()):
        context = {"form": form, "title": _("Purge a tag"), "media": admin.media + form.media}
        return _page(admin, request, "purge_form.html", context)
    hidden = [(name, str(form.cleaned_data[name])) for name in form.fields]
    return _confirmed(admin, request, [form.purge()], hidden)


def purge_of_rows(admin: Any, request: HttpRequest, rows: Sequence[InvalidationTag]) -> HttpResponse | None:
    """Asks whether these tags are meant, then purges. None, and a message: they cannot be."""
    if len(rows) > MOST:
        most = _(
            "These are more than %(most)d tags at once. manage.py purge_tag --pattern purges as many as there are."
        )
        admin.message_user(request, most % {"most": MOST}, messages.ERROR)
        return None
    hidden = [("id", str(row.pk)) for row in rows] + [("db", str(row._state.db)) for row in rows[:1]]
    return _confirmed(admin, request, _by_owner(rows), hidden)


def chosen(request: HttpRequest) -> list[InvalidationTag]:
    """The rows that a request names by their ids."""
    given = request.POST if request.method == "POST" else request.GET
    database = given.get("db", "")
    rows = InvalidationTag.objects.using(database if database in aliases() else get_settings().database)
    ids = [found for found in given.getlist("id") if found.isdecimal() and len(found) <= LONGEST_ID]
    return list(rows.filter(pk__in=ids[: MOST + 1]).order_by("tag", "-everybody", "tenant"))


def _by_owner(rows: Iterable[InvalidationTag]) -> list[Purge]:
    tags: dict[Tenant | None, list[Tag]] = {}
    for row in rows:
        tags.setdefault(owner_of(row), []).append(tag_of(row))
    return [Purge(tuple(each), owner) for owner, each in tags.items()]


def _confirmed(admin: Any, request: HttpRequest, purges: list[Purge], hidden: list[tuple[str, str]]) -> HttpResponse:
    if request.method == "POST" and "confirmed" in request.POST:
        return _carried_out(admin, request, purges)
    tags = [(tag, whose_of(purge)) for purge in purges for tag in purge.tags]
    answers = sizes([tag for tag, _ in tags])
    context = {
        "doomed": [(tag.name, of, number) for (tag, of), number in zip(tags, answers, strict=True)],
        "total": None if None in answers else sum(number or 0 for number in answers),
        "hidden": hidden,
        "title": ngettext("Purge this tag?", "Purge these tags?", len(tags)),
        "media": admin.media,
    }
    return _page(admin, request, "purge_confirmation.html", context)


def _carried_out(admin: Any, request: HttpRequest, purges: list[Purge]) -> HttpResponse:
    number = sum(len(purge.tags) for purge in purges)
    match carry_out(purges, also=lambda: _log(request, purges)):
        case Outcome.IN_FORCE:
            level = messages.SUCCESS
            told = ngettext(
                "%(number)d tag was purged: no answer that hung on it is served any more.",
                "%(number)d tags were purged: no answer that hung on them is served any more.",
                number,
            )
        case Outcome.UNCOMMITTED:
            level = messages.INFO
            told = ngettext(
                "%(number)d tag is purged when this request has ended.",
                "%(number)d tags are purged when this request has ended.",
                number,
            )
        case Outcome.PENDING:
            level = messages.WARNING
            told = ngettext(
                "The purge of %(number)d tag is written, and pending: Redis is out of reach. A drain applies it.",
                "The purge of %(number)d tags is written, and pending: Redis is out of reach. A drain applies it.",
                number,
            )
    admin.message_user(request, told % {"number": number}, level)
    return HttpResponseRedirect(_list(admin))


def _log(request: HttpRequest, purges: list[Purge]) -> None:
    digests = [tag.digest for purge in purges for tag in purge.tags]
    listed = InvalidationTag.objects.using(get_settings().database).filter(digest__in=digests)
    rows = {digest: str(pk) for digest, pk in listed.values_list("digest", "pk")}
    kind = ContentType.objects.get_for_model(InvalidationTag)
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=str(request.user.pk),
            content_type=kind,
            object_id=rows.get(tag.digest),
            object_repr=tag.name,
            action_flag=CHANGE,
            change_message=_("Purged (%(whose)s).") % {"whose": whose_of(purge)},
        )
        for purge in purges
        for tag in purge.tags
    )


def whose_of(purge: Purge) -> str:
    everybody = isinstance(purge.tenant, Everybody)
    return whose(everybody=everybody, tenant="" if everybody else str(purge.tenant or ""))


def _list(admin: Any) -> str:
    return reverse("admin:aicache_invalidationtag_changelist", current_app=admin.admin_site.name)


def _page(admin: Any, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    request.current_app = admin.admin_site.name  # the admin's own way
    around = {
        **admin.admin_site.each_context(request),
        "opts": InvalidationTag._meta,
        "purge_url": reverse("admin:aicache_invalidationtag_purge", current_app=admin.admin_site.name),
        "list_url": _list(admin),
    }
    return TemplateResponse(request, f"admin/aicache/invalidationtag/{template}", {**around, **context})
