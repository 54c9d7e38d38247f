"""When an answer was served: by the hour while it is young, then by the day."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aicache.admin.figures import number
from aicache.ledger.hits import DAY, HOUR
from aicache.models import CacheEntry, EntryHits

YOUNG: Final = 2 * DAY
LEAST, MOST = 24, 60  # bars
WIDTH, HEIGHT = 10, 60  # of a bar, in the picture's own units


@dataclass(frozen=True, slots=True)
class Bar:
    """``x``, ``y``, ``height``: as they stand in the picture."""

    at: str
    hits: int
    x: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Uses:
    bars: Sequence[Bar]
    hourly: bool

    @property
    def box(self) -> str:
        return f"0 0 {len(self.bars) * WIDTH} {HEIGHT}"

    @property
    def total(self) -> int:
        return sum(bar.hits for bar in self.bars)

    @property
    def told(self) -> str:
        """The whole in one line."""
        hits = ngettext("%(number)s hit", "%(number)s hits", self.total) % {"number": number(self.total)}
        most = number(max(bar.hits for bar in self.bars))
        words = _("%(hits)s; %(most)s in an hour at most") if self.hourly else _("%(hits)s; %(most)s in a day at most")
        return words % {"hits": hits, "most": most}


def uses(row: CacheEntry) -> Uses | None:
    """Of this very answer, until now or its end. None: it is not known that it was served. One query."""
    made, end = row.created_at.timestamp(), min(time.time(), row.expires_at.timestamp())
    hourly = time.time() - made < YOUNG
    span = HOUR if hourly else DAY
    last = int(end) // span * span
    born = int(made) // span * span
    first = max(min(born, last - (LEAST - 1) * span), last - (MOST - 1) * span)
    cells = EntryHits.objects.using(row._state.db).filter(
        entry=row.pk, span=span, start__range=(max(first, born), last + span)
    )
    found = dict(cells.values_list("start", "hits"))
    if not found:
        return None
    return Uses(list(_bars(found, first, max([last, *found]), span)), hourly)


def _bars(found: dict[int, int], first: int, last: int, span: int) -> Iterator[Bar]:
    most = max(found.values()) or 1
    for at, start in enumerate(range(first, last + 1, span)):
        hits = found.get(start, 0)
        height = max(round(hits * HEIGHT / most), 1 if hits else 0)
        yield Bar(_shown(start, span), hits, str(at * WIDTH + 1), str(HEIGHT - height), str(height))


def _shown(start: int, span: int) -> str:
    """Hours by the reader's clock; days are those of UTC."""
    began = datetime.fromtimestamp(start, UTC)
    if span == DAY:
        return date_format(began, "SHORT_DATE_FORMAT")
    return date_format(timezone.localtime(began), "SHORT_DATETIME_FORMAT")
