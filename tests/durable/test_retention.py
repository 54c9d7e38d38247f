"""What has expired goes, in batches; what lives stays."""

from __future__ import annotations

import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone

from aicache import tasks, upkeep
from aicache.durable import retention
from aicache.models import CacheEntry, IdempotencyKey, MetricBucket

pytestmark = pytest.mark.django_db


def entry(number: int, expired_for: timedelta) -> CacheEntry:
    at = timezone.now() - expired_for
    return CacheEntry(
        digest=f"{number:032}", key="k" * 64, policy="p", created_at=at, fresh_until=at, expires_at=at, payload=b""
    )


def key(number: int, expired_for: timedelta) -> IdempotencyKey:
    at = timezone.now() - expired_for
    return IdempotencyKey(digest=f"{number:032}", name=str(number), created_at=at, expires_at=at)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind five that expired two days ago, one that did so an hour ago, and one that lives."""
    monkeypatch.setattr(retention, "BATCH", 2)
    ages = [timedelta(days=2)] * 5 + [timedelta(hours=1), timedelta(days=-1)]
    CacheEntry.objects.bulk_create(entry(at, age) for at, age in enumerate(ages))
    IdempotencyKey.objects.bulk_create(key(at, age) for at, age in enumerate(ages))


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("prune_cache", *arguments, stdout=out)
    return out.getvalue()


def left() -> tuple[int, int]:
    return CacheEntry.objects.count(), IdempotencyKey.objects.count()


@pytest.mark.usefixtures("rows")
def test_the_command_deletes_what_has_expired_and_says_so() -> None:
    told = said()
    assert "5 expired copies" in told
    assert "6 expired idempotency keys" in told
    assert left() == (2, 1)
    assert "0 expired copies" in said()


@pytest.mark.usefixtures("rows")
def test_it_may_be_told_to_keep_none_of_them() -> None:
    said("--expired-for", "0")
    assert left() == (1, 1)


@pytest.mark.parametrize("days", ["-1", "soon", "nan", "1000000"])
def test_what_is_no_number_of_days_is_refused(days: str) -> None:
    with pytest.raises(CommandError, match="is no number of days"):
        said(f"--expired-for={days}")


@pytest.mark.usefixtures("rows")
def test_the_task_does_the_same() -> None:
    assert tasks.prune() == 11
    assert left() == (2, 1)


def test_a_database_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("no route to host")

    monkeypatch.setattr(retention, "_delete", away)
    with pytest.raises(CommandError, match=r"'default' cannot be asked: no route to host"):
        said()


def test_without_a_database_there_is_nothing_to_do() -> None:
    with override_settings(DATABASE_ROUTERS=[Elsewhere()]):
        assert upkeep.prune() == (0, 0, 0)


def test_without_a_place_for_copies_old_counts_are_rolled_up_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "durable_of", lambda *_: None)
    hour = int(time.time()) // 3600 * 3600 - 3 * 3600
    for minute in (hour, hour + 60):
        MetricBucket.objects.create(process="one", span=60, start=minute, owner="o" * 32, tenant="acme", hit=1)
    assert upkeep.prune() == (0, 0, 2)


class Elsewhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "aicache" else None
