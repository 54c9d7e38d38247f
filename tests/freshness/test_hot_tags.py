"""The second lane: many who compact a tag of many invalidations, while others count them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from aicache.freshness import drain
from aicache.freshness.generations import generations
from aicache.invalidation import invalidate
from aicache.models import Invalidation
from tests.freshness.recorder import tags
from tests.freshness.tables import in_a_thread
from tests.freshness.test_postgresql import ALIAS, postgresql

__all__ = ["postgresql"]

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]


def test_who_counts_while_a_hot_tag_is_compacted_counts_each_once(
    postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "NEWEST", 10)
    monkeypatch.setattr(drain, "BATCH", 7)
    for _ in range(300):
        invalidate("hot", tenant="t", using=ALIAS)
    (tag,) = tags("hot", tenant="t")
    done = threading.Event()
    counted: set[tuple[int, ...]] = set()

    def count() -> None:
        while not done.is_set():
            counted.add(generations([tag], among=[ALIAS]))

    compacting = [in_a_thread(ALIAS, lambda: drain.compact(timedelta(days=1), ALIAS)) for _ in range(3)]
    counting = in_a_thread(ALIAS, count)
    for wait in compacting:
        wait()
    done.set()
    counting()
    assert counted == {(300,)}
    assert drain.compact(timedelta(days=1), ALIAS) == 0
    assert Invalidation.objects.using(ALIAS).count() == 10
    assert generations([tag], among=[ALIAS]) == (300,)


def test_the_one_statement_is_taken_by_postgresql_as_it_is(postgresql: Any) -> None:
    invalidate("a", "b", tenant="t", using=ALIAS)
    invalidate("a", tenant="t", using=ALIAS)
    wanted = [*tags("a", tenant="t"), *tags("b", tenant="t"), *tags("never")]
    assert generations(wanted, among=[ALIAS]) == (2, 1, 0)
    drain.compact(timedelta(0), ALIAS)
    invalidate("a", tenant="t", using=ALIAS)
    assert generations(wanted, among=[ALIAS]) == (3, 1, 0)
    assert connections[ALIAS].vendor == "postgresql"
