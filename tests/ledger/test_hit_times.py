"""When an entry was served: by the hour and by the day, in every database that the app is tested with."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections
from django.db.utils import OperationalError
from django.utils import timezone

from aicache.core.tags import place as place_of
from aicache.ledger import hits as module
from aicache.ledger.hits import DAY, HOUR, Hits
from aicache.models import CacheEntry, EntryHits
from tests.ledger.conftest import ALIAS

MIDNIGHT = 20_000 * DAY


def site(_: object) -> str:
    return "here"


@pytest.fixture
def now(place: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [float(MIDNIGHT)]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    return clock


def entry(key: str) -> int:
    now = timezone.now()
    row = CacheEntry(digest=place_of("entry", "here", "acme", key), key=key, policy="default", payload=b"")
    row.created_at = row.fresh_until = row.expires_at = now
    row.save(using=ALIAS)
    return row.pk


def served(numbers: dict[str, int]) -> None:
    hits = Hits()
    for key, number in numbers.items():
        for _ in range(number):
            hits.note("acme", key, site)
    hits.write(ALIAS)


def told(pk: int) -> list[tuple[int, int, int]]:
    rows = EntryHits.objects.using(ALIAS).filter(entry=pk).order_by("span", "start")
    return [(span, start - MIDNIGHT, hits) for span, start, hits in rows.values_list("span", "start", "hits")]


def test_hits_add_up_in_the_hour_and_the_day_that_they_are_written_in(now: list[float]) -> None:
    one, two = entry("one"), entry("two")
    served({"one": 3, "two": 1})
    now[0] += HOUR - 1
    served({"one": 4})
    now[0] += 1
    served({"one": 5})
    now[0] += DAY
    served({"one": 6})
    assert told(one) == [(HOUR, 0, 7), (HOUR, HOUR, 5), (HOUR, DAY + HOUR, 6), (DAY, 0, 12), (DAY, DAY, 6)]
    assert told(two) == [(HOUR, 0, 1), (DAY, 0, 1)]


def test_of_what_has_no_row_nothing_is_written(now: list[float]) -> None:
    entry("one")
    served({"gone": 3})
    assert not EntryHits.objects.using(ALIAS).exists()


def test_many_are_written_by_few_statements(now: list[float]) -> None:
    for number in range(700):
        entry(str(number))
    writes: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        writes.append(sql)
        return execute(sql, *rest)

    with connections[ALIAS].execute_wrapper(watch):
        served({str(number): 1 for number in range(700)})

    assert sum("INSERT" in sql for sql in writes) == 2
    assert EntryHits.objects.using(ALIAS).count() == 1400


def test_two_processes_that_write_the_same_lose_nothing(now: list[float]) -> None:
    pks = {key: entry(key) for key in ("one", "two", "three")}

    def often(order: list[str]) -> None:
        try:
            for _ in range(20):
                served(dict.fromkeys(order, 1))
        finally:
            connections[ALIAS].close()

    threads = [threading.Thread(target=often, args=(order,)) for order in (list(pks), list(pks)[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: told(pk)[1] for key, pk in pks.items()} == dict.fromkeys(pks, (DAY, 0, 40))


@pytest.mark.parametrize("vendor", ["oracle", None])
def test_where_it_cannot_be_written_the_number_is_all_the_same(
    now: list[float], monkeypatch: pytest.MonkeyPatch, vendor: str | None
) -> None:
    """``None``: the table is missing, as between a release and its migration."""
    pk = entry("one")

    def fails(*_: Any) -> None:
        raise OperationalError("no such table")

    if vendor is None:
        monkeypatch.setattr(module, "_add", fails)
    else:
        monkeypatch.setattr(module, "ADD", {vendor: ""})
    served({"one": 2})
    assert CacheEntry.objects.using(ALIAS).get().hits == 2
    assert told(pk) == []
