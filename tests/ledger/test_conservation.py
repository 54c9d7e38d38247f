"""Nothing is counted twice, and nothing is missing but what is lost, in whatever order things happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.ledger import compaction, rows
from aicache.ledger.compaction import DAY, HOUR
from aicache.ledger.place import Owner, Place
from aicache.models import CountingProcess
from aicache.tenants import tenant_digest
from tests.ledger.books import of_all, of_owners
from tests.ledger.world import WATCHED, World, world

WHAT = ["hit", "miss", "unscoped", "answer", "nothing came", "prompt", "judge"]
WHAT += 3 * ["fail", "retry", "send", "not sent"]  # what may change a figure that is written
PLACES = [
    Place("acme", "large", "chat"),
    Place("acme", "small", "chat"),
    Place("globex", "large", "daily"),
    Place(None, "large", "chat"),
    Place(Owner(tenant_digest("acme"), "acme", False), "large", "chat"),
]
WAITS = [5, 20, 60, 300, 600, 600, 1200, 1200, 1750, 1900, HOUR, 3 * HOUR, 3 * DAY, 500 * DAY]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("flusher"), pytest.mark.timeout(600)]
breaking = st.none() | st.tuples(st.integers(0, 4), st.booleans())
whose = st.sampled_from([0, 0, 0, 1])
counting = st.tuples(st.just("count"), whose, st.sampled_from(PLACES), st.sampled_from(WHAT))
flushing = st.tuples(st.just("flush"), whose, breaking)
working = st.tuples(st.just("work"), whose, st.sampled_from(PLACES), st.sampled_from(WHAT), breaking)
waiting = st.tuples(st.just("wait"), st.sampled_from(WAITS))
ending = st.tuples(st.just("end"), whose)
killing = st.tuples(st.just("kill"), whose)
between = st.none() | flushing | counting | ending | st.just(("compact", None))
compacting = st.tuples(st.just("compact"), between)
careful = working | working | counting | flushing | waiting | waiting | compacting | ending


def go(on: World, step: Any) -> None:
    match step:
        case "count", number, place, what:
            on.count(on.workers[number], place, what)
        case "flush", number, breaks_at:
            on.flush(on.workers[number], breaks_at=breaks_at)
        case "work", number, place, what, breaks_at:
            on.count(on.workers[number], place, what)
            on.flush(on.workers[number], breaks_at=breaks_at)
        case "wait", seconds:
            on.wait(seconds)
            on.check()
            on.compact()
        case "end", number:
            on.flush(on.workers[number], closes=True)
        case "kill", number:
            on.kill(on.workers[number])
        case "compact", None:
            on.compact()
        case "compact", meanwhile:
            on.compact(lambda: go(on, meanwhile))
    on.check()


def whole(on: World) -> None:
    """All that live have written all."""
    for _ in range(2):  # who is told that it was taken to be gone writes what it has left
        for worker in on.workers:
            on.flush(worker, closes=True)
    on.check()
    assert of_all() == of_owners()


def quickly(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


@quickly(30)
@given(st.lists(careful, min_size=20, max_size=50))
def test_while_all_live_everything_is_there_once(monkeypatch: pytest.MonkeyPatch, steps: list[Any]) -> None:
    with world(monkeypatch) as on:
        for step in steps:
            go(on, step)
        whole(on)
        if not on.lost():
            found = of_owners()
            assert {name: found.get(name, 0) for name in WATCHED} == {name: on.truth[name] for name in WATCHED}
        on.wait(3 * HOUR)
        for _ in range(2):
            compaction.compact()
            on.check()


@quickly(30)
@given(st.lists(careful | killing, min_size=20, max_size=50))
def test_where_some_are_killed_no_figure_is_wrong_by_more_than_is_lost(
    monkeypatch: pytest.MonkeyPatch, steps: list[Any]
) -> None:
    with world(monkeypatch) as on:
        for step in steps:
            go(on, step)
        whole(on)
        on.wait(3 * DAY)
        compaction.compact()
        on.check()
        assert CountingProcess.objects.filter(unsettled__lt=rows.GONE).count() == 0
