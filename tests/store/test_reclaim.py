"""What hangs on tags, in Redis: noted, counted, and its memory freed once it died."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from aicache.core.operations import Capture, Finish
from aicache.core.records import Ask
from aicache.core.tags import hanging
from aicache.store import Store, news, tags
from aicache.store.payload import pack_entry
from tests.store.conftest import an_entry, keys_of
from tests.store.tagged import ARTICLE, TENANT, end, found, keep, lead, question


def briefly(store: Store, ask: Ask) -> None:
    """Kept for half a second, which may be over by now."""
    assert end(store, ask, *lead(store, ask), life=0.5)


def test_the_tags_of_answers_that_died_of_age_are_named_no_more(store: Store) -> None:
    briefly(store, question(tags=hanging(["short"], TENANT)))
    keep(store, question("both", tags=hanging(["short", "long"], TENANT)), life=60)
    briefly(store, question("again", tags=hanging(["short"], TENANT)))  # shortens no life
    assert {tag.name for tag, _ in store.names()} == {"short", "long"}

    briefly(store, question("brief", tags=hanging(["brief"], TENANT)))
    time.sleep(0.6)
    keep(store, question("other", tags=hanging(["other"], TENANT)))
    assert {tag.name for tag, _ in store.names()} == {"short", "long", "other"}


def test_what_died_of_age_is_forgotten_a_part_at_a_time(store: Store, server: redis.Redis) -> None:
    """A million of them would stop the server, and every process's breaker would open."""
    ask = question(tags=hanging(["old"], TENANT))
    keys = keys_of(store)
    sets = [keys.names, *(keys.hanging(tag.digest) for tag in ask.tags)]
    for name in sets:
        server.zadd(name, {json.dumps([f"old {at}", TENANT, ""]): 1.0 for at in range(1000)})
    keep(store, ask)

    assert [server.zcard(name) for name in sets] == [802, 801, 801]
    assert {tag for tag, _ in store.names()} == set(ask.tags)  # nor are those named that are still there
    for at in range(4):
        keep(store, question(str(at), tags=ask.tags))
    assert [server.zcard(name) for name in sets] == [2, 5, 5]


def test_a_list_lives_as_long_as_the_longest_answer_in_it(store: Store, server: redis.Redis) -> None:
    keys, year = keys_of(store), 365 * 24 * 3600.0
    keep(store, question("for a year"), life=year)
    keep(store, question("for a minute"))
    for name in (keys.names, keys.hanging(ARTICLE.digest)):
        assert server.pttl(name) > 1000 * (year - 3600)


def bare(store: Store, asks: list[Ask], life: float = 60.0) -> None:
    """Keeps an answer to each, a thousand times faster than one by one."""
    stamps = store.perform(Capture(asks[0]))
    keys = keys_of(store)
    entries = [an_entry(ask, life=life, stamps=stamps) for ask in asks]
    commands = [("SET", keys.entry(ask), pack_entry(entry)) for ask, entry in zip(asks, entries, strict=True)]
    for at in range(0, len(asks), 200):
        store.connections.pipeline(commands[at : at + 200])
        for ask, entry in zip(asks[at : at + 200], entries[at : at + 200], strict=True):
            store.connections.run(lambda keys, _, ask=ask, entry=entry: tags.hang(keys, ask, entry))  # type: ignore[misc]


@pytest.mark.timeout(120)
def test_the_memory_of_ten_thousand_dead_answers_is_freed_in_batches(store: Store, server: redis.Redis) -> None:
    asks = [question(str(at), tags=(ARTICLE,)) for at in range(10_000)]
    bare(store, asks)
    assert store.counts([ARTICLE]) == [10_000]
    assert store.reclaim(1000) == (0, True)  # all are alive

    store.stamp([ARTICLE])
    again = asks[:30]
    for ask in again:
        keep(store, ask, b"made anew")
    freed = freeing(store, 2000)

    assert sum(freed) == 10_000 - len(again)
    assert 5 <= len(freed) <= 7
    assert all(batch < 2000 + 2 * tags.BATCH for batch in freed)
    assert store.counts([ARTICLE]) == [len(again)]
    assert all(found(store, ask).answer.body == b"made anew" for ask in again)
    assert store.reclaim(1) == (0, True)


def freeing(store: Store, most: int) -> list[int]:
    """What each batch frees, until nothing is left."""
    freed = []
    while True:
        batch, done = store.reclaim(most)
        freed.append(batch)
        if done:
            return freed
        assert len(freed) < 1000, "it comes to no end"


def test_a_batch_looks_at_no_more_than_it_may_though_it_frees_nothing(store: Store, server: redis.Redis) -> None:
    asks = [question(str(at), tags=(ARTICLE,)) for at in range(3000)]
    bare(store, asks)
    store.stamp([ARTICLE])
    server.delete(*(keys_of(store).entry(ask) for ask in asks))
    hanging_on = keys_of(store).hanging(ARTICLE.digest)

    assert store.reclaim(100) == (0, False)

    assert 100 <= 3000 - server.zcard(hanging_on) < 300
    assert 5 <= len(freeing(store, 500)) <= 8
    assert server.zcard(hanging_on) == 0


def test_who_goes_on_where_the_last_one_stopped_comes_past_what_lives(store: Store) -> None:
    asks = [question(str(at), tags=(ARTICLE,)) for at in range(1500)]
    bare(store, asks)
    store.stamp([ARTICLE])
    bare(store, asks[:1000])  # made anew: their notes stay

    freed = freeing(store, 100)

    assert sum(freed) == 500
    assert len(freed) < 40
    assert store.counts([ARTICLE]) == [1000]


def test_tags_on_which_nothing_hangs_are_work_too(store: Store) -> None:
    named = [hanging([f"tag:{at}"], TENANT)[0] for at in range(50)]
    store.perform(Capture(question(tags=tuple(named))))
    store.stamp(named)
    assert store.reclaim(20) == (0, False)
    assert store.reclaim(20) == (0, False)
    assert store.reclaim(20) == (0, True)


@pytest.mark.parametrize("garbage", [b"x", b"x:y", b"x:-1", b":", b"x:99999999999999999999", b"\xff:\xff"])
def test_what_is_no_tag_stops_nobody_who_frees(store: Store, server: redis.Redis, garbage: bytes) -> None:
    keep(store, question(tags=(ARTICLE,)))
    store.stamp([ARTICLE])
    server.sadd(keys_of(store).dead, garbage)
    assert sum(freeing(store, 100)) == 1


def test_what_was_made_anew_and_is_not_noted_yet_is_not_freed(store: Store) -> None:
    ask = question()
    keep(store, ask)
    store.stamp([ARTICLE])
    stamps, token = lead(store, ask)
    entry = an_entry(ask, b"made anew", stamps=stamps)
    store.connections.run(store._finishing(Finish(ask, stamps, token, entry, keep=True), _message(ask, entry)))

    assert store.reclaim(100) == (0, True)
    assert found(store, ask).answer.body == b"made anew"


def _message(ask: Ask, entry: Any) -> tuple[bytes, bytes]:
    return news.message(Finish(ask, entry.stamps, "", entry, keep=True))


def test_who_frees_and_is_interrupted_leaves_the_rest_to_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(10):
        keep(store, question(str(at)))
    store.stamp([ARTICLE])
    with monkeypatch.context() as patched:
        patched.setattr(store, "_free", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.reclaim(100)
    assert store.reclaim(100) == (10, True)


def test_what_is_no_answer_stops_nobody_who_frees(store: Store, server: redis.Redis) -> None:
    keys = keys_of(store)
    for at, value in enumerate((b"", b"x", b"\x02\x00\xff\xff\xff\xff", None)):
        ask = question(str(at))
        keep(store, ask)
        server.delete(keys.entry(ask))
        if value is None:
            server.lpush(keys.entry(ask), "of another type")
        else:
            server.set(keys.entry(ask), value)
    keep(store, question("whole"))
    store.stamp([ARTICLE])
    assert store.reclaim(100) == (1, True)


def test_where_nobody_frees_what_died_it_is_not_remembered_for_ever(store: Store, server: redis.Redis) -> None:
    dead = keys_of(store).dead
    keep(store, question())
    store.stamp([ARTICLE])
    assert server.pttl(dead) > 0
    server.sadd(dead, *range(99_999))
    assert server.scard(dead) == 100_000
    keep(store, question(tags=hanging(["another"], TENANT)))
    store.stamp(hanging(["another"], TENANT))
    assert server.scard(dead) == 100_000


def test_what_died_is_dead_whatever_stands_where_it_is_remembered(store: Store, server: redis.Redis) -> None:
    keep(store, question())
    server.set(keys_of(store).dead, "of another type")
    store.stamp([ARTICLE])
    assert store.counts([ARTICLE]) == [0]
    assert not store.connections.breaker.down
