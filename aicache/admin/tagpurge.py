"""Purging tags in the admin: what is to die is named, shown, and dies when that is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from aicache.admin import confirmation
from aicache.admin.confirmation import MOST, Deed, DeedAdmin, confirmed, page, write_down
from aicache.admin.facts import owner_of, tag_of
from aicache.admin.purging import Words, purged, whose_of
from aicache.conf import get_settings
from aicache.core.tags import OURS, Tag
from aicache.freshness.databases import aliases
from aicache.freshness.options import LONGEST_TAG
from aicache.models import InvalidationTag
from aicache.purge import Outcome, Purge, sizes
from aicache.purge import whose as owner_named
from aicache.tenants import Tenant

PERMISSION: Final = "aicache.purge_tag"
WORDS: Final[Words] = {
    Outcome.IN_FORCE: ngettext_lazy(
        "%(number)d tag was purged: no answer that hung on it is served any more.",
        "%(number)d tags were purged: no answer that hung on them is served any more.",
        "number",
    ),
    Outcome.UNCOMMITTED: ngettext_lazy(
        "%(number)d tag is purged when this request has ended.",
        "%(number)d tags are purged when this request has ended.",
        "number",
    ),
    Outcome.PENDING: ngettext_lazy(
        "The purge of %(number)d tag is written, and pending: Redis is out of reach. A drain applies it.",
        "The purge of %(number)d tags is written, and pending: Redis is out of reach. A drain applies it.",
        "number",
    ),
}


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
        if tag.startswith(OURS):
            raise ValidationError(_("No tag of a site's begins with %(ours)s.") % {"ours": OURS})
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


def purge_of_form(admin: DeedAdmin, request: HttpRequest) -> HttpResponse:
    """Asks for a tag, then whether it is meant, then purges."""
    form = PurgeForm(request.POST or None, initial={"tag": request.GET.get("tag", "")})
    if not (request.method == "POST" and form.is_valid()):
        context = {"form": form, "title": _("Purge a tag"), "media": admin.media + form.media}
        return page(admin, request, "invalidationtag/purge_form.html", context)
    hidden = [(name, str(form.cleaned_data[name])) for name in form.fields]
    return confirmed(admin, request, _deed(request, [form.purge()], hidden))


def purge_of_rows(admin: DeedAdmin, request: HttpRequest, rows: Sequence[InvalidationTag]) -> HttpResponse | None:
    """Asks whether these tags are meant, then purges. None, and a message: they cannot be."""
    if len(rows) > MOST:
        most = _(
            "These are more than %(most)d tags at once. manage.py purge_tag --pattern purges as many as there are."
        )
        admin.message_user(request, most % {"most": MOST}, messages.ERROR)
        return None
    hidden = [("id", str(row.pk)) for row in rows] + [("db", str(row._state.db)) for row in rows[:1]]
    return confirmed(admin, request, _deed(request, _by_owner(rows), hidden))


def chosen(request: HttpRequest) -> list[InvalidationTag]:
    """The rows that a request names by their ids."""
    given = request.POST if request.method == "POST" else request.GET
    database = given.get("db", "")
    rows = InvalidationTag.objects.using(database if database in aliases() else get_settings().database)
    sites = rows.exclude(tag__startswith=OURS)
    return confirmation.chosen(request, sites.order_by("tag", "-everybody", "tenant"))


def _by_owner(rows: Iterable[InvalidationTag]) -> list[Purge]:
    tags: dict[Tenant | None, list[Tag]] = {}
    for row in rows:
        tags.setdefault(owner_of(row), []).append(tag_of(row))
    return [Purge(tuple(each), owner) for owner, each in tags.items()]


def _deed(request: HttpRequest, purges: list[Purge], hidden: list[tuple[str, str]]) -> Deed:
    tags = [(tag, whose_of(purge)) for purge in purges for tag in purge.tags]

    def shown() -> dict[str, Any]:
        answers = sizes([tag for tag, _ in tags])
        return {
            "doomed": [(tag.name, of, number) for (tag, of), number in zip(tags, answers, strict=True)],
            "total": None if None in answers else sum(number or 0 for number in answers),
        }

    return Deed(
        ngettext("Purge this tag?", "Purge these tags?", len(tags)),
        "invalidationtag/purge_confirmation.html",
        hidden,
        shown,
        lambda: purged(purges, WORDS, also=lambda: _log(request, tags)),
    )


def _log(request: HttpRequest, tags: list[tuple[Tag, str]]) -> None:
    listed = InvalidationTag.objects.using(get_settings().database).filter(digest__in=[tag.digest for tag, _ in tags])
    rows = {digest: str(pk) for digest, pk in listed.values_list("digest", "pk")}
    said = _("Purged (%(whose)s).")
    write_down(
        request, InvalidationTag, CHANGE, ((rows.get(tag.digest), tag.name, said % {"whose": of}) for tag, of in tags)
    )
