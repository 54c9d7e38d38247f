"""Purging single answers in the admin: Redis loses each, and its copy dies with whatever else it is pinned to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.models import DELETION
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from aicache.admin.briefs import briefs
from aicache.admin.confirmation import GONE, MOST, Deed, DeedAdmin, confirmed, write_down
from aicache.admin.content import may_read
from aicache.admin.facts import named_owner
from aicache.admin.purging import Words, purged
from aicache.admin.remembered import whose
from aicache.core.tags import Tag, of_answer
from aicache.models import CacheEntry
from aicache.purge import Outcome, Purge
from aicache.tenants import Tenant

PERMISSION: Final = "aicache.purge_entry"
WORDS: Final[Words] = {
    Outcome.IN_FORCE: ngettext_lazy(
        "%(number)d answer was purged: it is not served any more.",
        "%(number)d answers were purged: none of them is served any more.",
        "number",
    ),
    Outcome.UNCOMMITTED: ngettext_lazy(
        "%(number)d answer is purged when this request has ended.",
        "%(number)d answers are purged when this request has ended.",
        "number",
    ),
    Outcome.PENDING: ngettext_lazy(
        "The purge of %(number)d answer is written, and pending: Redis is out of reach. A drain applies it.",
        "The purge of %(number)d answers is written, and pending: Redis is out of reach. A drain applies it.",
        "number",
    ),
}


def purge_of_entries(admin: DeedAdmin, request: HttpRequest, rows: Sequence[CacheEntry]) -> HttpResponse | None:
    """Asks whether these are meant, then purges. None, and a message: they cannot be."""
    if refused(admin, request, rows):
        return None

    def shown() -> dict[str, Any]:
        return {"doomed": list(zip(rows, briefs(rows, words=may_read(request)), map(whose_of, rows), strict=True))}

    deed = Deed(
        "purge",
        ngettext("Purge this answer?", "Purge these answers?", len(rows)),
        "cacheentry/purge_confirmation.html",
        [("id", str(row.pk)) for row in rows],
        shown,
        lambda: purged(request, by_owner(rows), WORDS, also=lambda: delete(request, rows, _("Purged (%(whose)s)."))),
    )
    return confirmed(admin, request, deed)


def refused(admin: DeedAdmin, request: HttpRequest, rows: Sequence[CacheEntry]) -> bool:
    """Whether nothing can be done with these, and a message says why."""
    if not rows:
        admin.message_user(request, GONE, messages.WARNING)
    elif len(rows) > MOST:
        most = _("These are more than %(most)d answers at once. Narrow the list, or purge a tag that they hang on.")
        admin.message_user(request, most % {"most": MOST}, messages.ERROR)
    return not 0 < len(rows) <= MOST


def by_owner(rows: Iterable[CacheEntry]) -> list[Purge]:
    tags: dict[Tenant | None, list[Tag]] = {}
    for row in rows:
        owner = named_owner(row, row.owner.__eq__)
        tags.setdefault(owner, []).append(of_answer(row.lineage, row.key, row.owner))
    return [Purge(tuple(each), owner) for owner, each in tags.items()]


def delete(request: HttpRequest, rows: Sequence[CacheEntry], said: str) -> None:
    """With it goes a line in the admin's log for each."""
    if rows:
        CacheEntry.objects.using(rows[0]._state.db).filter(pk__in=[row.pk for row in rows]).delete()
    write_down(
        request, CacheEntry, DELETION, ((str(row.pk), str(row), said % {"whose": whose_of(row)}) for row in rows)
    )


def whose_of(row: CacheEntry) -> str:
    return whose(everybody=row.everybody, tenant=row.tenant)
