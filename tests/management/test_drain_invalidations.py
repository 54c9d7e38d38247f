from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from aicache import upkeep
from aicache.core.tags import Tag
from aicache.freshness import databases
from aicache.freshness.generations import generations
from aicache.invalidation import invalidate
from aicache.management.commands import drain_invalidations
from aicache.models import Invalidation, InvalidationTag
from aicache.tenants import tenant_digest
from tests.answers import ask, keep, without_redis
from tests.freshness.far import far

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

PRICES = Tag("prices", tenant_digest("acme"))


def drain(*words: str, **options: Any) -> str:
    out = StringIO()
    call_command("drain_invalidations", *words, stdout=out, **options)
    return out.getvalue()


def invalidated_without_redis() -> None:
    with without_redis():
        invalidate("prices", tenant="acme")
    assert Invalidation.objects.get().applied_at is None


def test_where_nothing_is_pending_it_says_so() -> None:
    assert "default: 0 applied" in drain()


def test_what_is_pending_is_applied() -> None:
    keep(1, "prices")
    invalidated_without_redis()

    assert "default: 1 applied" in drain()

    assert Invalidation.objects.get().applied_at is not None
    assert ask("0 of ('prices',)", "prices") == "miss"
    assert "default: 0 applied" in drain()


def test_it_fails_while_something_stays_pending() -> None:
    invalidated_without_redis()

    with without_redis(), pytest.raises(CommandError, match="1 still pending: Redis is out of reach"):
        drain()

    assert Invalidation.objects.get().applied_at is None


def test_it_waits_for_redis_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(1, "prices")
    invalidated_without_redis()
    pauses = []
    with ExitStack() as outage:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                outage.close()

        monkeypatch.setattr(drain_invalidations.time, "sleep", pause)
        outage.enter_context(without_redis())
        assert "default: 1 applied" in drain("--wait")

    assert pauses == [drain_invalidations.PAUSE] * 2
    assert ask("0 of ('prices',)", "prices") == "miss"


def test_the_memory_of_dead_answers_is_freed() -> None:
    keep(3, "prices")
    keep(1, "refunds")
    invalidate("prices", tenant="acme")

    assert "3 dead answers freed" in drain()

    assert "0 dead answers freed" in drain()
    assert ask("0 of ('refunds',)", "refunds") == "hit"


def test_the_tags_in_use_are_listed_for_the_admin() -> None:
    keep(1, "prices")

    assert "2 tags in use" in drain()

    assert list(InvalidationTag.objects.values_list("tag", "everybody").order_by("everybody")) == [
        ("prices", False),
        ("prices", True),
    ]


def test_old_ones_are_deleted_and_still_counted() -> None:
    for _ in range(3):
        invalidate("prices", tenant="acme")
    oldest = Invalidation.objects.order_by("pk")[:2]
    long_ago = timezone.now() - timedelta(days=8)
    Invalidation.objects.filter(pk__in=[row.pk for row in oldest]).update(made_at=long_ago, applied_at=long_ago)
    with without_redis():
        invalidate("prices", tenant="acme")
    pending = Invalidation.objects.get(applied_at=None)
    Invalidation.objects.filter(pk=pending.pk).update(made_at=long_ago)
    assert generations([PRICES]) == (4,)

    with without_redis(), pytest.raises(CommandError, match="still pending"):
        drain("--compact", "7")
    assert Invalidation.objects.count() == 4
    assert "default: 2 old ones deleted" in drain("--compact", "7")

    assert Invalidation.objects.count() == 2
    assert generations([PRICES]) == (4,)


@pytest.mark.parametrize("days", ["soon", "-1", "nan", "inf"])
def test_days_are_a_number(days: str) -> None:
    with pytest.raises(CommandError, match="is no number of days"):
        drain(f"--compact={days}")


def test_without_redis_and_with_nothing_pending_it_does_not_fail() -> None:
    err = StringIO()
    with without_redis():
        assert "default: 0 applied" in drain(stderr=err)
    assert "no memory was freed" in err.getvalue()


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_database_that_cannot_be_asked_is_named_and_the_others_are_drained(how: str, tmp_path: Path) -> None:
    invalidated_without_redis()
    out, err = StringIO(), StringIO()

    with far(how, tmp_path) as alias, pytest.raises(CommandError, match=f"is not known: {alias}"):
        call_command("drain_invalidations", "--compact", "30", stdout=out, stderr=err)

    assert "default: 1 applied" in out.getvalue()
    assert "default: 0 old ones deleted" in out.getvalue()
    assert "tags in use" in out.getvalue()
    assert f"{alias}: " in err.getvalue()
    assert err.getvalue().count("\n") == 1
    assert Invalidation.objects.get().applied_at is not None


def test_without_redis_a_database_that_cannot_be_asked_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalidated_without_redis()
    err = StringIO()
    with ExitStack() as outage:
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                outage.close()

        monkeypatch.setattr(drain_invalidations.time, "sleep", pause)
        outage.enter_context(without_redis())
        with far("refuses", tmp_path) as alias, pytest.raises(CommandError, match="is not known"):
            drain("--wait", stderr=err)
    assert err.getvalue().count(f"{alias}: ") == 1


@pytest.mark.parametrize("redis", ["up", "away"])
def test_where_the_sites_database_lacks_the_table_it_fails_and_says_what_to_do(
    redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(1, "prices")
    out, err = StringIO(), StringIO()
    invalidate("prices", tenant="acme", using="other")
    found = databases.is_migrated
    monkeypatch.setattr(databases, "is_migrated", lambda using: using != "default" and found(using))
    monkeypatch.setattr(upkeep, "is_migrated", databases.is_migrated)

    with ExitStack() as stack:
        if redis == "away":
            stack.enter_context(without_redis())
        stack.enter_context(pytest.raises(CommandError, match="is not known: default"))
        call_command("drain_invalidations", stdout=out, stderr=err)

    assert 'default: it has no table of ours: run "manage.py migrate --database default"' in err.getvalue()
    assert "other: 0 applied" in out.getvalue()
    assert upkeep.index_tags() == 0
