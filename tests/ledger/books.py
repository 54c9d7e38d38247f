"""The books as a whole: what all rows come to, each way of adding them up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aicache.ledger import stats
from aicache.ledger.counts import MINUTE
from aicache.ledger.figures import SUMMED
from aicache.ledger.place import OF_ALL, OF_OWNER, OF_PLACE
from aicache.models import MetricBucket

Sums = dict[str, int]


def summed(rows: Iterable[dict[str, Any]]) -> Sums:
    """Those that are not 0."""
    found = dict.fromkeys(SUMMED, 0)
    for row in rows:
        for name in SUMMED:
            found[name] += row[name]
    return {name: number for name, number in found.items() if number}


def of_owners(using: str = "default") -> Sums:
    """Each place's rows, which come to the same as the sums that were made for each owner."""
    rows = MetricBucket.objects.using(using)
    sums = summed([*rows.filter(span=MINUTE).values(), *rows.filter(total=OF_OWNER).values()])
    assert sums == of_places(using)
    return sums


def of_places(using: str = "default") -> Sums:
    return summed(MetricBucket.objects.using(using).filter(total=OF_PLACE).values())


def of_all(using: str = "default") -> Sums:
    """The minutes of all owners, and the sums of what has been rolled up of them."""
    rows = MetricBucket.objects.using(using)
    return summed([*rows.filter(span=MINUTE).values(), *rows.filter(total=OF_ALL).values()])


def told(using: str = "default") -> dict[str, Any]:
    """By tenant and model."""
    found = stats.read(using)
    return {"tenants": dict(found.tenants), "models": dict(found.models)}
