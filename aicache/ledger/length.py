"""Lengths of time as people type them."""

from __future__ import annotations

import re
from typing import Final

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
LONGEST: Final = 100 * 365 * SECONDS["d"]
ACCEPTED: Final = "a number with s, m, h or d, such as 90s, 15m, 24h or 7d"


def seconds_of(given: str) -> int:
    """Raises ValueError that says what is accepted."""
    matched = re.fullmatch(r"([0-9]{1,12})([smhd])", given)
    if matched is None or (seconds := int(matched[1]) * SECONDS[matched[2]]) > LONGEST:
        raise ValueError(f"since is {given!r}; accepted: {ACCEPTED}")
    return seconds
