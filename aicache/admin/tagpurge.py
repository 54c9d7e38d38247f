"""Purging tags in the admin: what is to die is named, shown, and dies when that is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from aicache.admin import confirmation
from aicache.admin.confirmation import MOST, Deed, DeedAdmin, confirmed, page, write_down
from aicache.admin.facts import owner_of, tag_of
from aicache.admin.losses import losses
from aicache.admin.owners import theirs
from aicache.admin.purgeform import PurgeForm
from aicache.admin.purging import Words, purged, whose_of
from aicache.conf import get_settings
from aicache.core.tags import OURS, Tag
from aicache.freshness.databases import aliases
from aicache.models import InvalidationTag
from aicache.purge import Outcome, Purge, sizes
from aicache.sight import sight
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


def purge_of_form(admin: DeedAdmin, request: HttpRequest) -> HttpResponse:
    """Asks for a tag, then whether it is meant, then purges."""
    form = PurgeForm(sight(request), request.POST or None, initial={"tag": request.GET.get("tag", "")})
    if not (request.method == "POST" and form.is_valid()):
        context = {"form": form, "title": _("Purge a tag"), "media": admin.media + form.media}
        return page(admin, request, "purge", "invalidationtag/purge_form.html", context)
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
    sites = theirs(rows.exclude(tag__startswith=OURS), sight(request))
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
        lost = losses([tag for tag, _ in tags], answers)
        each = [None] * len(tags) if lost is None else lost.each
        return {
            "doomed": [
                (tag.name, of, number, loss) for (tag, of), number, loss in zip(tags, answers, each, strict=True)
            ],
            "total": None if None in answers else sum(number or 0 for number in answers),
            "lost": None if lost is None else lost.total,
        }

    return Deed(
        "purge",
        ngettext("Purge this tag?", "Purge these tags?", len(tags)),
        "invalidationtag/purge_confirmation.html",
        hidden,
        shown,
        lambda: purged(request, purges, WORDS, also=lambda: _log(request, tags)),
    )


def _log(request: HttpRequest, tags: list[tuple[Tag, str]]) -> None:
    listed = InvalidationTag.objects.using(get_settings().database).filter(digest__in=[tag.digest for tag, _ in tags])
    rows = {digest: str(pk) for digest, pk in listed.values_list("digest", "pk")}
    said = _("Purged (%(whose)s).")
    write_down(
        request, InvalidationTag, CHANGE, ((rows.get(tag.digest), tag.name, said % {"whose": of}) for tag, of in tags)
    )
