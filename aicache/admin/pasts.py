"""What has become of the tags that an answer hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from aicache.admin.keyed import named
from aicache.admin.owners import theirs
from aicache.admin.remembered import moment, whose
from aicache.admin.states import fates
from aicache.conf import get_settings
from aicache.core.tags import EVERYBODY, Tag, members
from aicache.freshness.databases import aliases
from aicache.models import CacheEntry, Invalidation, InvalidationTag
from aicache.sight import sight

LAST: Final = 3


@dataclass(frozen=True, slots=True)
class Death:
    """One invalidation. ``page``: its own; ``list``: all of its tag's."""

    at: datetime
    cause: str
    whose: str
    page: str
    list: str

    @property
    def moment(self) -> str:
        return moment(self.at)


@dataclass(frozen=True, slots=True)
class Past:
    """``page``: the tag's, "" where there is none for this user. ``word``, ``label``: whether it has died since the
    answer was made. ``last``: its newest invalidations, its tenant's and everybody's. ``lists``: where all of them are.
    """

    name: str
    page: str
    word: str
    label: str
    last: Sequence[Death]
    lists: Sequence[tuple[str, str]]


def pasts(site: AdminSite, request: HttpRequest, row: CacheEntry, generations: Sequence[int] | None) -> list[Past]:
    """Of each tag by whose name its site knows it. ``generations``: those that the answer was kept with.

    As many queries as there are databases, and two, however many tags.
    """
    kin = {name: _kin(name, row) for name in named(row.tags)}
    digests = [tag.digest for tags in kin.values() for tag in tags]
    died, pages = _deaths(site, request, digests), _pages(site, request, row, digests)
    known = fates(row, generations)
    found = []
    for name, tags in kin.items():
        deaths = sorted((death for tag in tags for death in died.get(tag.digest, ())), key=lambda each: each.at)[::-1]
        lists = dict.fromkeys((death.whose, death.list) for death in deaths)
        found.append(Past(name, pages.get(tags[0].digest, ""), *_fate(tags, known), deaths[:LAST], list(lists)))
    return found


def _kin(name: str, row: CacheEntry) -> list[Tag]:
    """All that the answer dies of by that name, the row's own tag first."""
    names = (name, members(name)) if members(name) in row.tags else (name,)
    return [Tag(each, owner) for each in names for owner in dict.fromkeys((row.owner, EVERYBODY))]


def _fate(tags: Sequence[Tag], known: Mapping[Tag, bool | None]) -> tuple[str, str]:
    told = {known.get(tag) for tag in tags}
    if True in told:
        return "invalidated", _("died since")
    return ("unknown", _("unknown")) if None in told else ("living", _("stands"))


def _deaths(site: AdminSite, request: HttpRequest, digests: Sequence[str]) -> dict[str, list[Death]]:
    """By the digests: the newest of each that this user may see, in each database that answers."""
    found: dict[str, list[Death]] = {}
    if not (digests and _may_look(site, request, Invalidation)):
        return found
    newest = Window(RowNumber(), partition_by=F("digest"), order_by=F("id").desc())
    listed = reverse("admin:aicache_invalidation_changelist", current_app=site.name)
    for alias in aliases():
        rows = theirs(Invalidation.objects.using(alias).filter(digest__in=digests), sight(request))
        for row in rows.annotate(nth=newest).filter(nth__lte=LAST):
            is_elsewhere = alias != get_settings().database
            every = f"{listed}?{urlencode({'digest': row.digest, **({'db': alias} if is_elsewhere else {})})}"
            page = every if is_elsewhere else _page(site, "invalidation", row.pk)
            death = Death(row.made_at, row.cause, whose(everybody=row.everybody, tenant=row.tenant), page, every)
            found.setdefault(row.digest, []).append(death)
    return found


def _pages(site: AdminSite, request: HttpRequest, row: CacheEntry, digests: Sequence[str]) -> dict[str, str]:
    """By the digests: the pages of those tags that are listed, and that this user may see."""
    if not _may_look(site, request, InvalidationTag):
        return {}
    rows = theirs(InvalidationTag.objects.using(row._state.db).filter(digest__in=digests), sight(request))
    return {digest: _page(site, "invalidationtag", pk) for digest, pk in rows.values_list("digest", "pk")}


def _page(site: AdminSite, model: str, pk: int) -> str:
    return reverse(f"admin:aicache_{model}_change", args=[pk], current_app=site.name)


def _may_look(site: AdminSite, request: HttpRequest, model: Any) -> bool:
    return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)
