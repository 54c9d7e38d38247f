"""When tags last died, and of whom or what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from aicache.freshness.databases import aliases
from aicache.models import Invalidation


@dataclass(frozen=True, slots=True)
class Death:
    at: datetime
    cause: str


def last_deaths(digests: Collection[str]) -> dict[str, Death]:
    """Of the tags with these digests that have died. One query for each database that answers."""
    found: dict[str, Death] = {}
    for alias in aliases():
        rows = Invalidation.objects.using(alias)
        newest = rows.filter(digest__in=digests).order_by().values("digest").annotate(newest=Max("id"))
        for digest, at, cause in rows.filter(pk__in=newest.values("newest")).values_list("digest", "made_at", "cause"):
            if digest not in found or at > found[digest].at:
                found[digest] = Death(at, cause)
    return found
