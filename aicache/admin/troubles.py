"""What whoever looks at the figures must know first: what is not as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from django.core.checks import ERROR
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aicache.admin.figures import number
from aicache.admin.invalidations import pending
from aicache.admin.remembered import span
from aicache.cache import get_cache
from aicache.checks import check_settings
from aicache.core.operations import Unavailable
from aicache.freshness.databases import aliases, silent
from aicache.sight import Sight

LATE: Final = 30.0
"""Seconds after which an invalidation that is pending says that nobody drains: see ``celery.DRAIN_EVERY``."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """``said``: in English, as ``manage.py check`` says it."""

    level: Literal["warning", "error"]
    text: str
    said: str = ""


def troubles(seen: Sight, lost: int) -> Iterator[Trouble]:
    """``lost``: counts that killed processes could not report, at most. How the site is set up is told to those alone
    who may see all of it."""
    yield from _of_redis()
    if seen.owners is None:
        yield from _of_checks()
        yield from _of_databases()
    for waiting in pending(seen):
        if waiting.age.total_seconds() < LATE:
            continue
        told = ngettext(
            "%(number)s invalidation is pending, for %(age)s: nobody drains. Run manage.py drain_invalidations, and "
            "see that Celery's beat does.",
            "%(number)s invalidations are pending, the oldest for %(age)s: nobody drains. Run manage.py "
            "drain_invalidations, and see that Celery's beat does.",
            waiting.number,
        )
        yield Trouble("error", told % {"number": number(waiting.number), "age": span(waiting.age)})
    if lost and seen.owners is None:
        told = _("Processes were killed before they could report: at most %(number)s counts are missing in any figure.")
        yield Trouble("warning", told % {"number": number(lost)})


def _of_databases() -> Iterator[Trouble]:
    aliases()  # asks each of them anew
    for alias in silent():
        yield Trouble("error", _("The database %(alias)s does not answer.") % {"alias": alias})


def _of_redis() -> Iterator[Trouble]:
    try:
        if not get_cache().store.is_on():
            yield Trouble("warning", _("The cache is switched off for the whole site: manage.py aicache on."))
    except Unavailable:
        yield Trouble("error", _("Redis is out of reach: all calls go to Claude, and none is answered by the cache."))
    except ImproperlyConfigured:  # a check says why
        pass


def _of_checks() -> Iterator[Trouble]:
    for message in check_settings(None):
        level: Literal["warning", "error"] = "error" if message.level >= ERROR else "warning"
        hint = f" {message.hint}" if message.hint else ""
        yield Trouble(level, _("The system check %(id)s fails:") % {"id": message.id}, f"{message.msg}.{hint}")
