"""When answers were served is forgotten with them, and in time."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from aicache.durable import retention
from aicache.ledger.hits import DAY, HOUR
from aicache.models import CacheEntry, EntryHits

pytestmark = pytest.mark.django_db

NOW = int(time.time())


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)


def entry(number: int, *, expired: bool = False) -> int:
    at = timezone.now() + timedelta(days=-3 if expired else 1)
    return CacheEntry.objects.create(
        digest=str(number), key="k", policy="p", created_at=at, fresh_until=at, expires_at=at, payload=b""
    ).pk


def served(entry: int, span: int, ago: int) -> None:
    EntryHits.objects.create(entry=entry, span=span, start=NOW - ago, hits=1)


def left() -> list[tuple[int, int, int]]:
    rows = EntryHits.objects.order_by("entry", "span", "-start").values_list("entry", "span", "start")
    return [(entry, span, NOW - start) for entry, span, start in rows]


def test_with_its_answer_it_goes() -> None:
    living, expired = entry(1), entry(2, expired=True)
    for pk in (living, expired, 99, 98, 97):
        served(pk, DAY, 0)
    retention.prune("default")
    assert left() == [(living, DAY, 0)]


def test_hours_go_before_days() -> None:
    pk = entry(1)
    for span, ages in ((HOUR, (0, 2, 4, 5, 6)), (DAY, (0, 4, 80, 91, 92, 93))):
        for age in ages:
            served(pk, span, age * DAY)
    retention.prune("default")
    assert left() == [(pk, HOUR, 0), (pk, HOUR, 2 * DAY), (pk, DAY, 0), (pk, DAY, 4 * DAY), (pk, DAY, 80 * DAY)]


def test_of_too_many_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_HITS", 3)
    pk = entry(1)
    for age in range(8, 0, -1):
        served(pk, DAY, age * DAY)
    retention.prune("default")
    assert left() == [(pk, DAY, age * DAY) for age in (1, 2, 3)]
