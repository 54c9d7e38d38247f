"""How often an entry was served is added to its row."""

from __future__ import annotations

import pytest
from django.test import override_settings
from django.utils import timezone

from aicache.core.tags import digest
from aicache.ledger import hits as module
from aicache.ledger.hits import Hits
from aicache.models import CacheEntry

pytestmark = pytest.mark.django_db


def site(_: object) -> str:
    return "here"


def entry(key: str, tenant: str = "acme", site: str = "here") -> None:
    now = timezone.now()
    place = digest("entry", f"{site}\0{tenant}\0{key}")
    CacheEntry.objects.create(
        digest=place, key=key, policy="default", payload=b"", created_at=now, fresh_until=now, expires_at=now
    )


def told() -> dict[str, int]:
    return dict(CacheEntry.objects.values_list("key", "hits"))


def test_each_row_gets_its_own() -> None:
    hits = Hits()
    for key, number in {"one": 1, "two": 2, "also two": 2, "gone": 5}.items():
        for _ in range(number):
            hits.note("acme", key, site)
    for key in ("one", "two", "also two", "none"):
        entry(key)
    entry("one", tenant="globex")
    entry("two", site="there")

    hits.write("default")
    hits.write("default")

    served = CacheEntry.objects.exclude(hits=0).order_by("key").values_list("key", "hits")
    assert list(served) == [("also two", 2), ("one", 1), ("two", 2)]
    assert CacheEntry.objects.filter(hit_at__isnull=False).count() == 3


def test_they_add_up() -> None:
    hits = Hits()
    entry("one")
    for _ in range(3):
        hits.note("acme", "one", site)
        hits.write("default")
    assert told() == {"one": 3}


def test_too_many_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    hits = Hits()
    for key in ("one", "two", "three"):
        entry(key)
        for _ in range(2):
            hits.note("acme", key, site)
    hits.write("default")
    assert told() == {"one": 2, "two": 2, "three": 0}


def test_without_durable_copies_there_is_nothing_to_do(django_assert_num_queries: object) -> None:
    hits = Hits()
    hits.note("acme", "one", site)
    with override_settings(AICACHE={"DURABLE": False}), django_assert_num_queries(0):  # type: ignore[operator]
        hits.write("default")


def test_what_cannot_be_written_is_nobodys_trouble() -> None:
    hits = Hits()
    hits.note("acme", "one", site)
    hits.write("no database")
