"""How an answer and what it belongs to are spelled in a row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from django.utils import timezone

LONGEST: Final = 255
# No calendar takes every number that a payload may hold.
LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def moment(unix: float) -> datetime:
    """As the site's USE_TZ wants it."""
    at = datetime.fromtimestamp(min(max(unix, 0.0), LAST.timestamp()), UTC)
    return at if timezone.is_aware(timezone.now()) else timezone.make_naive(at, timezone.get_default_timezone())
