"""How many answers hang on tags: exactly where they are few, quickly where they are many, and after they died."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from aicache.core.tags import Tag, hanging
from aicache.store import Address, Store, tags
from aicache.testing.valkey import Valkey
from tests.store.conftest import keys_of
from tests.store.tagged import ARTICLE, PRICES, TENANT, keep, question
from tests.store.test_roundtrips import Counted


def test_each_answer_of_a_few_is_looked_for(store: Store, server: redis.Redis) -> None:
    for at in range(3):
        keep(store, question(str(at)))
    assert store.counts([ARTICLE, Tag("nothing", TENANT), PRICES]) == [3, 0, 3]
    server.delete(keys_of(store).entry(question("1")))
    assert store.counts([ARTICLE, PRICES]) == [2, 2]
    assert store.counts([]) == []


def test_many_are_not_looked_for(store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "MANY", 3)
    for at in range(3):
        keep(store, question(str(at)))
    server.delete(keys_of(store).entry(question("1")))
    assert store.counts([ARTICLE]) == [3]
    server.delete(keys_of(store).stamp(ARTICLE.digest))
    assert store.counts([ARTICLE]) == [0]  # all of them are dead


def test_what_hung_on_a_tag_can_be_counted_after_it_died(any_store: Any) -> None:
    for at in range(3):
        keep(any_store, question(str(at)))
    stood = any_store.standing([ARTICLE, PRICES])
    any_store.stamp([ARTICLE])

    assert any_store.counts([ARTICLE, PRICES]) == [0, 3]
    assert any_store.counts([ARTICLE, PRICES], stood) == [3, 3]


def test_what_died_of_age_does_not_count(store: Store, server: redis.Redis) -> None:
    keep(store, question("old"))
    noted = keys_of(store).hanging(ARTICLE.digest)
    server.zadd(noted, dict.fromkeys(server.zrange(noted, 0, -1), 1.0))
    assert store.counts([ARTICLE]) == [0]


@pytest.mark.parametrize("portion", [1, 7, 500])
def test_the_portions_in_which_it_is_done_make_no_difference(
    store: Store, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(tags, "BATCH", portion)
    named = [hanging([f"tag:{at}"], TENANT)[0] for at in range(12)]
    for at, tag in enumerate(named):
        for number in range(at % 4):
            keep(store, question(f"{at} {number}", tags=(tag,)))
    assert store.counts(named) == [at % 4 for at in range(12)]
    assert len(store.standing(named)) == 12


def test_a_thousand_tags_are_a_few_round_trips() -> None:
    with Valkey() as quiet:
        store = Store(Address((quiet.url,)), "site")
        named = [Tag(f"tag:{at}", TENANT) for at in range(1000)]
        for tag in named[::100]:
            keep(store, question(tag.name, tags=(tag,)))
        counted = Counted(quiet.port)
        assert sum(store.counts(named)) == 10
        told = counted.since()
        assert (told["mget"], told["zcount"], told["zrangebyscore"], told["getrange"]) == (2, 1000, 10, 10)
        assert told["reads"] < 50
        store.close()
