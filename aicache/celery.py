"""When Celery's beat does what aicache needs done now and then. Imports no Celery; the tasks are in ``tasks``.

app.conf.beat_schedule = {**aicache.celery.BEAT_SCHEDULE, **yours}
"""

from __future__ import annotations

from typing import Any, Final

DRAIN_EVERY: Final = 10.0
"""Seconds: for so long, at most, an invalidation stays pending that its own process did not live to apply."""

MINUTE: Final = 60.0

# A run that no worker took in time is dropped: the next one does its work too.
# Nothing is daily: a beat that forgets its state with each deployment would never come to it.
BEAT_SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    f"aicache.{name}": {
        "task": f"aicache.tasks.{name}",
        "schedule": seconds,
        "options": {"expires": seconds},
    }
    for name, seconds in {
        "drain_invalidations": DRAIN_EVERY,
        "reclaim": MINUTE,
        "index_tags": 5 * MINUTE,
        "compact_invalidations": 60 * MINUTE,
        "prune": 60 * MINUTE,
        "roll_up": 10 * MINUTE,
    }.items()
}
