"""What every store promises of tags: which answers they hold up, and what they bring down."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from aicache.core.operations import Capture, Finish, Lead, Look, Unavailable, Wait
from aicache.core.tags import EVERYBODY, Tag, hanging
from aicache.core.turns import Held, Led, News
from aicache.store import Store
from tests.store.conftest import an_entry, keys_of
from tests.store.tagged import ARTICLE, NAMES, PRICES, TENANT, end, found, keep, lead, look, question, reason


def test_what_has_no_stamp_is_given_one_and_what_has_one_keeps_it(any_store: Any) -> None:
    ask = question()
    assert look(any_store, ask).stamps is None
    first = any_store.perform(Capture(ask))

    assert len(set(first.values)) >= 1
    assert len(first.values) == len(ask.tags) == 4
    assert any_store.perform(Capture(ask)) == first
    assert look(any_store, ask).stamps == first

    more = question(tags=hanging([*NAMES, "shipping"], TENANT))
    taken = dict(zip(more.tags, any_store.perform(Capture(more)).values, strict=True))
    assert tuple(taken[tag] for tag in ask.tags) == first.values


def test_who_hangs_on_nothing_has_his_stamps_from_a_look(any_store: Any) -> None:
    ask = question(tags=())
    stamps = look(any_store, ask).stamps
    assert stamps is not None
    assert stamps.values == ()
    assert any_store.perform(Capture(ask)) == stamps


def test_an_invalidation_changes_what_stands_and_nothing_else(any_store: Any) -> None:
    ask = question()
    any_store.stamp([ARTICLE])
    assert look(any_store, ask).stamps is None
    before = any_store.perform(Capture(ask)).values
    any_store.stamp([ARTICLE, Tag("never heard of", TENANT)])
    after = any_store.perform(Capture(ask)).values

    changed = [tag for tag, then, now in zip(ask.tags, before, after, strict=True) if then != now]
    assert changed == [ARTICLE]


def test_twice_is_as_good_as_once_and_never_the_same(any_store: Any) -> None:
    ask = question()
    seen = {any_store.perform(Capture(ask)).values}
    for _ in range(20):
        any_store.stamp([ARTICLE, ARTICLE, PRICES])
        seen.add(any_store.perform(Capture(ask)).values)
    assert len(seen) == 21


def test_no_tags_at_all_is_no_error(any_store: Any) -> None:
    any_store.stamp([])


def test_a_thousand_tags_die_in_one_go(any_store: Any) -> None:
    asks = [question(str(at), tags=hanging([str(at)], TENANT)) for at in range(1000)]
    before = [any_store.perform(Capture(ask)).values for ask in asks]
    any_store.stamp([tag for ask in asks for tag in ask.tags])
    after = [any_store.perform(Capture(ask)).values for ask in asks]
    assert not {value for values in before for value in values} & {value for values in after for value in values}


@pytest.mark.parametrize("tag", hanging(NAMES, TENANT), ids=lambda tag: f"{tag.name}, {tag.tenant[:2]}")
def test_an_answer_dies_with_each_of_its_tags(any_store: Any, tag: Tag) -> None:
    ask = question()
    keep(any_store, ask)
    any_store.stamp([tag])

    assert reason(any_store, ask) == f"invalidated:{tag.name}"
    keep(any_store, ask)
    assert found(any_store, ask)


def test_an_answer_lives_when_others_die(any_store: Any) -> None:
    ask = question()
    keep(any_store, ask)
    any_store.stamp([Tag("article:18", TENANT), Tag("article:17", "8" * 32), Tag("article", EVERYBODY)])
    assert found(any_store, ask)


def test_a_purge_shows_the_name_that_its_owner_knows(any_store: Any) -> None:
    ask = question(tags=hanging(["shop.article", "shop.article:*"], TENANT))
    keep(any_store, ask)
    any_store.stamp([Tag("shop.article:*", TENANT)])
    assert reason(any_store, ask) == "invalidated:shop.article"


def test_the_reason_says_which_source_changed(any_store: Any) -> None:
    before = question(lineage="5" * 64, sources=(("shop.article:17", "v1"), ("shop.price:3", "v1")))
    after = question("another key", lineage="5" * 64, sources=(("shop.article:17", "v1"), ("shop.price:3", "v2")))
    keep(any_store, before)
    assert reason(any_store, after) == "source_changed:shop.price:3"


def test_the_reason_says_that_its_time_was_up(any_store: Any) -> None:
    ask = question()
    stamps, token = lead(any_store, ask)
    end(any_store, ask, stamps, token, life=0.05)
    time.sleep(0.1)
    assert reason(any_store, ask) == "expired"


def test_the_reason_says_that_a_stamp_was_lost(store: Store, server: redis.Redis) -> None:
    ask = question()
    keep(store, ask)
    server.delete(keys_of(store).stamp(ARTICLE.digest))
    assert reason(store, ask) == "evicted"
    assert look(store, ask).stamps is None


def test_a_flight_under_other_stamps_is_another_and_takes_nothing(any_store: Any) -> None:
    ask = question()
    before, token = lead(any_store, ask)
    any_store.stamp([ARTICLE])
    after, other = lead(any_store, ask)
    assert token != other

    assert not end(any_store, ask, before, token, b"old")
    assert reason(any_store, ask) != ""
    assert end(any_store, ask, after, other, b"new")
    # An entry that stands is none for who took other stamps, before or since.
    assert isinstance(any_store.perform(Lead(ask, before, since=0)), Led)
    assert any_store.perform(Lead(ask, after, since=0)).answer.body == b"new"
    any_store.stamp([PRICES])
    assert isinstance(any_store.perform(Lead(ask, any_store.perform(Capture(ask)), since=0)), Led)


def test_an_answer_that_died_while_it_was_made_is_for_its_waiters_alone(any_store: Any) -> None:
    ask = question()
    stamps, token = lead(any_store, ask)
    held = any_store.perform(Lead(ask, stamps, since=0))
    assert isinstance(held, Held)
    heard: list[Any] = []
    waiter = threading.Thread(target=lambda: heard.append(any_store.perform(Wait(ask, held.token, 20))))
    waiter.start()
    any_store.stamp([Tag("prices", EVERYBODY)])

    assert not end(any_store, ask, stamps, token, b"made from the old row")
    waiter.join(10)
    assert heard[0].answer.body == b"made from the old row"
    assert look(any_store, ask).entry is None


def test_an_answer_that_is_not_kept_needs_no_stamps(any_store: Any) -> None:
    ask = question()
    stamps, token = lead(any_store, ask)
    any_store.stamp([ARTICLE])
    assert any_store.perform(Finish(ask, stamps, token, entry=an_entry(ask, stamps=stamps), share=True))


def test_who_takes_an_old_answer_though_it_was_written_anew_gets_none(any_store: Any) -> None:
    """The lease of a killed leader ends; what it left behind under the old stamps is nobody's answer."""
    ask = question()
    stamps, token = lead(any_store, ask)
    any_store.stamp([ARTICLE])
    any_store.perform(Finish(ask, stamps, token))
    again, late = lead(any_store, ask, stamps)
    assert not end(any_store, ask, again, late)
    assert look(any_store, ask).entry is None


def test_out_of_reach_it_says_so(any_store: Any) -> None:
    if isinstance(any_store, Store):
        any_store.connections.breaker.down = True
    else:
        any_store.down = True
    for act in (lambda: any_store.stamp([ARTICLE]), lambda: any_store.perform(Capture(question()))):
        with pytest.raises(Unavailable):
            act()


def test_what_hangs_on_a_tag_is_counted(any_store: Any) -> None:
    for at in range(7):
        keep(any_store, question(str(at)))
    keep(any_store, question("of prices alone", tags=hanging(["prices"], TENANT)))

    assert any_store.counts([ARTICLE, PRICES, Tag("nothing", TENANT)]) == [7, 8, 0]
    any_store.stamp([ARTICLE])
    assert any_store.counts([ARTICLE]) == [0]
    keep(any_store, question("0"))
    assert any_store.counts([ARTICLE]) == [1]


def test_the_tags_in_use_are_named(any_store: Any) -> None:
    ask = question()
    assert list(any_store.names()) == []
    keep(any_store, ask)
    assert {tag for tag, _ in any_store.names()} == set(ask.tags)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_waiter_of_old_stamps_hears_nothing_of_a_new_flight(any_store: Any, colour: str) -> None:
    import asyncio

    ask = question()
    _, token = lead(any_store, ask)
    any_store.stamp([ARTICLE])
    lead(any_store, ask)
    wait = Wait(ask, token, 0.05)
    heard = any_store.perform(wait) if colour == "sync" else asyncio.run(any_store.aperform(wait))
    assert heard is News.LOOK_AGAIN


def test_a_look_needs_no_more_than_64_names(store: Store) -> None:
    ask = question(tags=hanging([f"tag:{at}" for at in range(64)], TENANT))
    keep(store, ask)
    assert isinstance(found(store, ask).stamps.values, tuple)
    store.stamp([Tag("tag:63", EVERYBODY)])
    assert reason(store, ask) == "invalidated:tag:63"
    assert store.perform(Look(ask)).stamps is not None
