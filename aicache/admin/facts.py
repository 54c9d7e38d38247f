"""What is known of a tag beside its row: a page of tags costs as many queries as one tag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _

from aicache.admin.deaths import Death, last_deaths
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.frame import current_tenant
from aicache.freshness.databases import aliases, silent
from aicache.freshness.drain import Recalled
from aicache.freshness.generations import generations
from aicache.models import CacheEntry, InvalidationTag
from aicache.purge import sizes
from aicache.tenants import GLOBAL, Tenant, tenant_digest


@dataclass(frozen=True, slots=True)
class Facts:
    """``answers``: how many hang on it now; None where Redis is out of reach. ``last``: its last invalidation."""

    answers: int | None
    generation: int
    last: Death | None


def facts(rows: Sequence[InvalidationTag]) -> list[Facts]:
    """Of each row, in their order. Two queries for each database that answers, and a few questions to Redis."""
    last = last_deaths([row.digest for row in rows])
    answers = sizes([tag_of(row) for row in rows])
    counted = generations(rows, among=aliases())
    return [
        Facts(number, generation, last.get(row.digest))
        for row, number, generation in zip(rows, answers, counted, strict=True)
    ]


def say_silent(request: HttpRequest) -> None:
    """On the page: of which databases it shows nothing, as they do not answer."""
    aliases()
    for alias in silent():
        told = _("The database %(alias)s does not answer: what it knows of invalidations is missing on this page.")
        messages.warning(request, told % {"alias": alias})


def owner_of(row: InvalidationTag) -> Tenant | None:
    """Whose tag it is; None where that is not known by name, or the name was too long to be kept."""
    return named_owner(row, lambda owner: Tag(row.tag, owner).digest == row.digest)


def named_owner(row: InvalidationTag | CacheEntry, is_owner: Callable[[str], bool]) -> Tenant | None:
    """Whose row it is, if one of those that it may be of is it by its digest."""
    single = get_settings().single_tenant and current_tenant()
    for candidate in (GLOBAL if row.everybody else row.tenant, single):
        if candidate and is_owner(tenant_digest(candidate)):
            return candidate
    return None


def tag_of(row: InvalidationTag) -> Tag:
    owner = owner_of(row)
    return Recalled(row.tag, "", row.digest) if owner is None else Tag(row.tag, tenant_digest(owner))
