"""What time it is for a flow, and how long an answer lives that is kept then."""

from __future__ import annotations

import random
import time
from datetime import datetime
from typing import Final

from django.utils import timezone

from aicache.core.life import life
from aicache.core.operations import Elapsed, Moment, Now

# Of our own: the state of the module's is the site's to seed, and children would share it after a fork.
_dice: Final = random.SystemRandom()


def clock(operation: Now | Elapsed, began: float) -> Moment | float:
    """``began``: when the flow did, by the monotonic clock."""
    if isinstance(operation, Elapsed):
        return time.monotonic() - began
    zone = timezone.get_current_timezone()
    now = datetime.now(zone)
    if operation.kept_at is None:
        return Moment(now.timestamp(), life(operation.policy, now, _dice.random()))
    # By a clock that was wrong it may be kept at any time; no calendar takes them all.
    kept = datetime.fromtimestamp(min(max(operation.kept_at, 0.0), now.timestamp()), zone)
    return Moment(now.timestamp(), life(operation.policy, kept, chance=0))
