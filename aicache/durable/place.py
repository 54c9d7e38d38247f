"""Where it is kept, if anywhere."""

from __future__ import annotations

from typing import Final

from django.db import connections, router

from aicache.conf import Settings
from aicache.durable.work import Durable
from aicache.durable.writer import get_writer

NOWHERE: Final = "django.db.backends.dummy"


def durable_of(settings: Settings, site: str) -> Durable | None:
    """None where there is no database, or the site's routers do not let the tables be there."""
    from aicache.models import CacheEntry

    using = settings.database
    engine = connections.settings.get(using, {}).get("ENGINE", NOWHERE)
    if engine == NOWHERE or not router.allow_migrate_model(using, CacheEntry):
        return None
    return Durable(site, using, get_writer(), copies=settings.durable)
