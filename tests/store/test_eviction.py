"""Stamps and answers may vanish at any moment, and outlive each other where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from aicache.core.operations import Capture
from aicache.core.policy import LONGEST
from aicache.core.records import Ask
from aicache.store import Store
from aicache.store.tags import LIFE
from tests.store.conftest import keys_of
from tests.store.tagged import ARTICLE, PRICES, end, found, keep, lead, look, question


def every_key(server: redis.Redis, site: str) -> list[bytes]:
    return sorted(key for key in server.scan_iter(f"aicache:*{site}*", count=1000))


MOMENTS: dict[str, Callable[[Store, Ask], Any]] = {
    "before a look": lambda store, ask: None,
    "after a look": lambda store, ask: look(store, ask),
    "after the stamps were taken": lambda store, ask: store.perform(Capture(ask)),
    "while it is led": lambda store, ask: lead(store, ask),
    "before an invalidation": lambda store, ask: None,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", range(16))
def test_any_key_may_go_at_any_moment_and_costs_a_miss(
    store: Store, server: redis.Redis, site: str, number: int, moment: str
) -> None:
    ask = question()
    keep(store, ask, b"1")
    had = MOMENTS[moment](store, ask)
    known = every_key(server, site)
    if number >= len(known):
        assert number >= 11  # the question's two or three, four stamps, four sets of what hangs, the names
        return
    server.delete(known[number])
    if moment == "before an invalidation":
        store.stamp([ARTICLE])
        assert look(store, ask).entry is None
    if moment == "while it is led":
        store.stamp([ARTICLE])
        assert not end(store, ask, *had, b"stale")
        assert look(store, ask).entry is None
    seen = look(store, ask)
    assert seen.entry is None or seen.entry.answer.body == b"1"
    keep(store, ask, b"2")
    store.stamp([PRICES])
    assert look(store, ask).entry is None
    assert keep(store, ask, b"3").answer.body == b"3"
    assert store.counts([ARTICLE])[0] >= 1
    store.reclaim(100)
    assert found(store, ask).answer.body == b"3"


@pytest.mark.parametrize("life", [60.0, LIFE * 2, float(LONGEST)])
def test_a_stamp_outlives_the_longest_answer_under_it(store: Store, server: redis.Redis, life: float) -> None:
    ask, keys = question(), keys_of(store)
    keep(store, ask, life=life)
    left = server.pttl(keys.entry(ask))
    assert left > life * 1000 - 5000
    for tag in ask.tags:
        assert server.pttl(keys.stamp(tag.digest)) >= left - 5000
        assert server.pttl(keys.hanging(tag.digest)) >= left - 5000
    store.stamp([ARTICLE])
    assert server.pttl(keys.stamp(ARTICLE.digest)) >= left - 5000  # an invalidation does not shorten it

    keep(store, question("brief"), life=1.0)
    assert server.pttl(keys.stamp(ARTICLE.digest)) >= left - 5000


def test_a_stamp_that_was_made_to_stay_for_ever_does(store: Store, server: redis.Redis) -> None:
    ask, keys = question(), keys_of(store)
    stamps = store.perform(Capture(ask))
    server.persist(keys.stamp(ARTICLE.digest))

    assert store.perform(Capture(ask)) == stamps
    assert server.pttl(keys.stamp(ARTICLE.digest)) == -1
    store.stamp([ARTICLE])
    assert server.pttl(keys.stamp(ARTICLE.digest)) == -1
    keep(store, ask)


def test_stamps_of_another_type_or_nobodys_are_none(store: Store, server: redis.Redis) -> None:
    ask, keys = question(), keys_of(store)
    keep(store, ask)
    for spoil in (
        lambda key: server.set(key, b"\xff\xfe"),
        lambda key: server.set(key, b""),
        lambda key: (server.delete(key), server.lpush(key, "x")),
    ):
        spoil(keys.stamp(ARTICLE.digest))
        assert look(store, ask).entry is None
        assert keep(store, ask)
        store.stamp([ARTICLE])
        assert look(store, ask).entry is None
        assert keep(store, ask)
