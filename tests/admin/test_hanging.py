"""Entries are found by their tags in every database that the app is tested with."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from aicache.admin.hanging import hanging_on
from aicache.admin.losses import losses
from aicache.conf import get_settings, site
from aicache.core.tags import EVERYBODY, Tag, place
from aicache.models import CacheEntry, Invalidation

NAMES = ["prices", 'a "quoted" one', "größe", "100%s", "{}", "\\", "", "'", "$[0]", "nul\ufffd", "🜁"]


def entry(using: str, key: str, *tags: str, owner: str = "acme", usd: str | None = "1.50") -> None:
    now = timezone.now()
    CacheEntry.objects.using(using).create(
        digest=place("entry", site(get_settings()), owner, key),
        key=key,
        owner=owner,
        policy="default",
        tags=list(tags),
        cost_usd=usd,
        payload=b"",
        created_at=now,
        fresh_until=now,
        expires_at=now + timedelta(hours=1),
    )


@pytest.mark.parametrize("name", NAMES)
def test_those_are_found_that_hang_on_one_of_the_names(using: str, name: str) -> None:
    entry(using, "one", name)
    entry(using, "two", "other", name, "x" * 200)
    entry(using, "three", f"{name}:1", "third")
    entry(using, "four")
    rows = CacheEntry.objects.using(using).order_by("pk")
    assert list(hanging_on(rows, [name]).values_list("key", flat=True)) == ["one", "two"]
    assert list(hanging_on(rows, ["nothing", "third"]).values_list("key", flat=True)) == ["three"]


def test_what_their_deaths_cost_is_added_up(using: str) -> None:
    tags = [Tag("prices", "acme"), Tag("prices", EVERYBODY), Tag("rates", "acme"), *(Tag(name, "a") for name in NAMES)]
    with override_settings(AICACHE={"DATABASE": using}):
        entry(using, "dead", "rates")
        dead = Invalidation(digest=Tag("rates", EVERYBODY).digest, tag="rates", everybody=True, made_at=timezone.now())
        dead.save(using=using)
        entry(using, "one", "prices", "rates")
        entry(using, "two", "prices", owner="globex", usd=None)
        found = losses(tags, [None] * len(tags))
    assert found is not None
    told = [(loss.copies, loss.money) for loss in (*found.each[:3], found.total)]
    assert told == [(1, "$1.50"), (2, "$1.50"), (1, "$1.50"), (2, "$1.50")]
