"""The databases that have invalidations in them: the same list in every process, or one misses what another wrote."""

from __future__ import annotations

import time
from typing import Final

from django.db import connections, router

from aicache.conf import get_settings
from aicache.database import ask
from aicache.freshness import family

# A database without our table may get it while we run. Until then nothing can be in it.
LOOK_AGAIN: Final = 10.0
# A page asks for the list several times, and must not wait as often for one that hangs.
ASK_AGAIN: Final = 2.0

_written: Final[set[str]] = set()
_migrated: Final[dict[str, float]] = {}  # by alias: until when it is known not to be, or for ever that it is
_silent: Final[dict[str, float]] = {}  # by alias: until when a list does not ask it again


def has_table(using: str) -> bool:
    """Whether the site's routers let the table of invalidations be there. A replica's is its primary's."""
    from aicache.models import Invalidation

    chosen = connections.settings[using]  # the connection itself may lack its driver
    if chosen["ENGINE"] == "django.db.backends.dummy" or chosen.get("TEST", {}).get("MIRROR"):
        return False
    return router.allow_migrate_model(using, Invalidation)


def candidates() -> list[str]:
    """All that may have the table, those first that this site is known to write to. Asks none of them."""
    usual = expected()
    return sorted((alias for alias in connections if has_table(alias)), key=lambda alias: alias not in usual)


def everywhere() -> list[str]:
    """All that have the table. Raises what a database does that is asked for the first time."""
    return [alias for alias in connections if has_table(alias) and is_migrated(alias)]


def aliases() -> list[str]:
    """Those that have the table and answer: for lists, and for whoever may go without. See ``silent``.

    Raises what the site's own database does. Another one is waited for as ``ask`` does.
    """
    return [alias for alias in candidates() if _answers(alias)]


def silent() -> list[str]:
    """Those that ``aliases`` has passed over, as they did not answer when it last asked."""
    return sorted(_silent)


def expected() -> set[str]:
    """Where this site's code, or this process, is known to write: without one of these nobody knows what is pending."""
    usual = (router.db_for_write(registered.model) for registered in family.everyone())
    return {get_settings().database, *usual, *_written}


def wrote(using: str) -> None:
    _written.add(using)


def may_hold(using: str) -> bool:
    """Whether there can be an invalidation in it. Raises what the database does.

    One that nobody is known to write to is waited for as ``ask`` does, whatever was known of it.
    """
    return is_migrated(using) if using in expected() else ask(using, _has_rows)


def is_migrated(using: str) -> bool:
    """On this thread's connection, where it is not known. Raises what the database does."""
    from aicache.models import Invalidation

    now = time.monotonic()
    if (known := _migrated.get(using, 0.0)) > now:
        return known == FOR_EVER
    connection = connections[using]
    with connection.cursor() as cursor:
        found = Invalidation._meta.db_table in connection.introspection.table_names(cursor)
    _migrated[using] = FOR_EVER if found else now + LOOK_AGAIN
    return found


def _answers(using: str) -> bool:
    if using == get_settings().database:
        return is_migrated(using)
    if _silent.get(using, 0.0) > time.monotonic():
        return False
    try:
        found = ask(using, _has_table_now)
    except Exception:  # noqa: BLE001 - whatever a driver raises
        _silent[using] = time.monotonic() + ASK_AGAIN
        return False
    _silent.pop(using, None)
    return found


def _has_table_now(using: str) -> bool:
    """Asks, also where it is known."""
    _has_rows(using)
    return is_migrated(using)


def _has_rows(using: str) -> bool:
    from aicache.models import Invalidation

    return is_migrated(using) and Invalidation.objects.using(using).exists()


FOR_EVER: Final = float("inf")
