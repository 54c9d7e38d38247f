"""What tags cost in round trips: nothing on a hit, and an invalidation one script, whatever hangs on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from aicache.core.operations import Look
from aicache.core.tags import Tag, hanging
from aicache.store import Address, Store
from aicache.testing.valkey import Valkey
from tests.store.tagged import ARTICLE, TENANT, end, keep, lead, look, question
from tests.store.test_roundtrips import TIMES, Counted

NAMES = [f"tag:{at}" for at in range(64)]


@pytest.fixture
def quiet() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def store(quiet: Valkey) -> Iterator[Store]:
    store = Store(Address((quiet.url,)), "site")
    yield store
    store.close()


@pytest.mark.parametrize(("names", "packets"), [(0, 1), (1, 1), (20, 1), (64, 3)])
def test_a_hit_is_one_command_whatever_it_hangs_on(quiet: Valkey, store: Store, names: int, packets: int) -> None:
    """A long one is sent in a few packets, one right after the other, by redis-py."""
    ask = question(tags=hanging(NAMES[:names], TENANT))
    keep(store, ask)
    counted = Counted(quiet.port)
    for _ in range(TIMES):
        assert look(store, ask).entry is not None
    told = counted.since()
    assert TIMES <= told.pop("reads") <= packets * TIMES
    assert told == {"mget": TIMES}


def test_an_async_hit_too(quiet: Valkey, store: Store) -> None:
    ask = question(tags=hanging(NAMES, TENANT))
    keep(store, ask)

    async def main() -> dict[str, int]:
        assert (await store.aperform(Look(ask))).entry is not None
        counted = Counted(quiet.port)
        for _ in range(TIMES):
            await store.aperform(Look(ask))
        return counted.since()

    assert asyncio.run(main()) == {"mget": TIMES, "reads": TIMES}


def test_a_hundred_async_hits_at_once_go_out_together(quiet: Valkey, store: Store) -> None:
    ask = question()
    keep(store, ask)

    async def main() -> dict[str, int]:
        assert (await store.aperform(Look(ask))).entry is not None
        counted = Counted(quiet.port)
        await asyncio.gather(*(store.aperform(Look(ask)) for _ in range(100)))
        return counted.since()

    told = asyncio.run(main())
    assert told["mget"] == 100
    assert told["reads"] <= 10


def test_a_miss_takes_its_stamps_in_one_script_and_publishes_in_two(quiet: Valkey, store: Store) -> None:
    keep(store, question("warms the scripts up"))
    ask = question(tags=hanging(NAMES[:20], TENANT))
    counted = Counted(quiet.port)
    assert look(store, ask).stamps is None
    stamps, token = lead(store, ask)
    before = counted.since()
    assert before["reads"] == 3
    assert before["evalsha"] == 2

    counted = Counted(quiet.port)
    assert end(store, ask, stamps, token)
    after = counted.since()
    assert after["evalsha"] == 3 + len(ask.tags)  # what hangs on what is noted in one round trip, which comes last
    assert after["reads"] <= 3 + 2  # of many kilobytes, in a few packets


@pytest.mark.parametrize("answers", [0, 1, 300])
def test_an_invalidation_is_one_script_whatever_hangs_on_it(quiet: Valkey, store: Store, answers: int) -> None:
    for at in range(answers):
        keep(store, question(str(at)))
    store.stamp([ARTICLE])
    if answers:
        keep(store, question())
    counted = Counted(quiet.port)
    for _ in range(TIMES):
        store.stamp([ARTICLE, Tag("article:17", "8" * 32), Tag("article:*", TENANT)])
    told = counted.since()
    assert told["reads"] == told["evalsha"] == TIMES
    assert "unlink" not in told
    assert told["set"] == 3 * TIMES


def test_an_invalidation_of_a_thousand_tags_is_two(quiet: Valkey, store: Store) -> None:
    store.stamp([ARTICLE])
    counted = Counted(quiet.port)
    store.stamp([Tag(str(at), TENANT) for at in range(1000)])
    assert counted.since()["evalsha"] == 2
