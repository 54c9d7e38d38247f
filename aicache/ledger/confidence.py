"""How sure a share is that was found in a few."""

from __future__ import annotations

from math import sqrt
from typing import Final

Z: Final = 1.959964
"""Standard deviations on either side that hold 95 %."""


def interval(found: int, checked: int) -> tuple[float, float]:
    """Between which shares the true one lies, with 95 % confidence: Wilson's score interval. Of none, anywhere."""
    if checked <= 0:
        return 0.0, 1.0
    share = min(max(found / checked, 0.0), 1.0)
    spread = Z * sqrt(share * (1 - share) / checked + Z * Z / (4 * checked * checked))
    middle, scale = share + Z * Z / (2 * checked), 1 + Z * Z / checked
    low, high = max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)
    return (0.0 if found <= 0 else low), (1.0 if found >= checked else high)
