"""How often each stored answer was served: noted in memory, added to its row now and then. About right is enough."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Final

from django.db.models import F
from django.utils import timezone

from aicache.conf import Settings, get_settings
from aicache.core.tags import place
from aicache.sqlite import write

logger = logging.getLogger("aicache.ledger")

# Keys that are noted at most; hits of others are forgotten until these are written.
MOST: Final = 10_000
AT_ONCE: Final = 500


class Hits:
    def __init__(self) -> None:
        self._noted: dict[tuple[str, str], int] = {}
        self._site: Callable[[Settings], str] | None = None

    def note(self, tenant: str, key: str, site: Callable[[Settings], str]) -> None:
        """``tenant`` is a digest. ``site``: asked, when it is written, what keeps sites apart."""
        entry = (tenant, key)
        noted, self._site = self._noted, site
        if entry in noted or len(noted) < MOST:
            noted[entry] = noted.get(entry, 0) + 1

    def write(self, using: str) -> None:
        """What cannot be written is forgotten. Raises nothing."""
        noted, self._noted = self._noted, {}
        settings = get_settings()
        if not noted or self._site is None or not settings.durable:
            return
        try:
            _write(noted, self._site(settings), using)
        except Exception as error:  # noqa: BLE001 - counts must not suffer from it, and say by themselves what is wrong
            logger.info("hits of entries could not be noted: %s", error)


def _write(noted: dict[tuple[str, str], int], site: str, using: str) -> None:
    from aicache.models import CacheEntry

    by_number = defaultdict(list)
    for (tenant, key), number in list(noted.items()):  # who noted one at that moment may still be at it
        by_number[number].append(place("entry", site, tenant, key))
    for number, digests in sorted(by_number.items()):
        for start in range(0, len(digests), AT_ONCE):
            rows = CacheEntry.objects.using(using).filter(digest__in=digests[start : start + AT_ONCE])
            write(using, partial(rows.update, hits=F("hits") + number, hit_at=timezone.now()))
