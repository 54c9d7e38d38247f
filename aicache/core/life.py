"""How long an answer lives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aicache.core.policy import END_OF_DAY, END_OF_HOUR, Policy


@dataclass(frozen=True, slots=True)
class Life:
    """When an answer stops being fresh, and when it may no longer be served at all (unix seconds)."""

    fresh_until: float
    dies_at: float


def life(policy: Policy, now: datetime, chance: float) -> Life:
    """The life of an answer kept at ``now`` (aware, in the time zone that day and hour are meant in).

    ``chance`` is a draw from [0, 1) for the jitter, which only ever shortens.
    """
    if policy.ttl == END_OF_HOUR:
        # Counted in elapsed time: an hour that the clocks repeat ends twice.
        ttl = 3600 - (now.minute * 60 + now.second + now.microsecond / 1e6)
    elif policy.ttl == END_OF_DAY:
        # Wall-clock arithmetic: a day on which the clocks change has 23 or 25 hours. Where they repeat midnight itself,
        # the next one is as late as now is.
        end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        ttl = end.replace(fold=now.fold).timestamp() - now.timestamp()
    else:
        ttl = float(policy.ttl)
    fresh_until = now.timestamp() + ttl * (1 - policy.jitter * chance)
    return Life(fresh_until, fresh_until + policy.stale_while_revalidate if ttl else fresh_until)


def shorter(kept: Life, own: Life) -> Life:
    """The life that an answer has for a reader: as it was kept, and no longer than by the reader's own policy.

    ``own``: the life that the reader would have given it.
    """
    fresh_until = min(kept.fresh_until, own.fresh_until)
    return Life(fresh_until, min(kept.dies_at, fresh_until + (own.dies_at - own.fresh_until)))
