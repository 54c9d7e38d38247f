"""How often each stored answer was served: noted in memory, added to its row now and then. About right is enough."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

from django.db import connections
from django.db.models import F
from django.utils import timezone

from aicache.conf import Settings, get_settings
from aicache.core.tags import place
from aicache.sqlite import write

logger = logging.getLogger("aicache.ledger")

# Keys that are noted at most; hits of others are forgotten until these are written.
MOST: Final = 10_000
AT_ONCE: Final = 500
HOUR: Final = 3600
DAY: Final = 24 * HOUR
SPANS: Final = (HOUR, DAY)
ADD: Final = {
    "sqlite": "ON CONFLICT (entry, span, start) DO UPDATE SET hits = {table}.hits + EXCLUDED.hits",
    "postgresql": "ON CONFLICT (entry, span, start) DO UPDATE SET hits = {table}.hits + EXCLUDED.hits",
    "mysql": "ON DUPLICATE KEY UPDATE hits = hits + VALUES(hits)",
}
"""By a database's kind: to what stands there. Of another kind, when they were is not noted."""


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

    # Who noted one at that moment may still be at it.
    numbers = {place("entry", site, tenant, key): number for (tenant, key), number in list(noted.items())}
    by_number = defaultdict(list)
    for digest, number in numbers.items():
        by_number[number].append(digest)
    for number, digests in sorted(by_number.items()):
        for start in range(0, len(digests), AT_ONCE):
            rows = CacheEntry.objects.using(using).filter(digest__in=digests[start : start + AT_ONCE])
            write(using, partial(rows.update, hits=F("hits") + number, hit_at=timezone.now()))
    if connections[using].vendor in ADD:
        _write_times(numbers, int(time.time()), using)


def _write_times(numbers: dict[str, int], now: int, using: str) -> None:
    """Two statements for AT_ONCE entries, one of which writes."""
    from aicache.models import CacheEntry

    digests = iter(numbers)
    while batch := list(islice(digests, AT_ONCE)):
        known = CacheEntry.objects.using(using).filter(digest__in=batch).values_list("pk", "digest")
        # In one order, or two processes wait for each other.
        cells = [(pk, span, now // span * span, numbers[digest]) for pk, digest in sorted(known) for span in SPANS]
        if cells:
            write(using, partial(_add, cells, using))


def _add(cells: Iterable[tuple[int, int, int, int]], using: str) -> None:
    from aicache.models import EntryHits

    connection = connections[using]
    table = connection.ops.quote_name(EntryHits._meta.db_table)
    # Numbers of ours: as parameters they would be more than SQLite takes.
    values = ", ".join(f"({entry:d}, {span:d}, {start:d}, {hits:d})" for entry, span, start, hits in cells)
    add = ADD[connection.vendor].format(table=table)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (entry, span, start, hits) VALUES {values} {add}")  # noqa: S608
