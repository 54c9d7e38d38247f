"""What every store promises a flow."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

from aicache.core.operations import Finish, Lead, Look, Unavailable, Wait
from aicache.core.records import NO_STAMPS, Ask, Failure
from aicache.core.turns import Held, Led, News
from tests.store.conftest import an_ask, an_entry, taken

OVERLOADED = Failure("status", 529, (("retry-after", "1"),), b"{}")


def led(store: Any, ask: Ask) -> str:
    turn = store.perform(Lead(ask, NO_STAMPS, since=0))
    assert isinstance(turn, Led)
    return turn.token


def keep(store: Any, ask: Ask, body: bytes = b"{}", **changes: Any) -> None:
    stamps = taken(store, ask)
    token = store.perform(Lead(ask, stamps, since=0)).token
    entry = an_entry(ask, body, stamps=stamps, **changes)
    assert store.perform(Finish(ask, stamps, token, entry=entry, keep=True, share=True))


def test_nothing_is_found_before_anything_was_kept(any_store: Any) -> None:
    seen = any_store.perform(Look(an_ask()))
    assert (seen.entry, seen.reason, seen.enabled) == (None, "new", True)


def test_what_was_kept_is_found_whole(any_store: Any) -> None:
    ask = an_ask()
    stamps = taken(any_store, ask)
    token = any_store.perform(Lead(ask, stamps, since=0)).token
    entry = an_entry(ask, b"body" * 1000, stamps=stamps)
    any_store.perform(Finish(ask, stamps, token, entry=entry, keep=True, share=True))

    assert any_store.perform(Look(ask)).entry == entry
    assert any_store.perform(Lead(ask, stamps, since=0)) == entry


@pytest.mark.parametrize(
    "other", [an_ask(tenant="u" * 32), an_ask(key="j" * 64), an_ask(key="j" * 64, lineage="m" * 64)]
)
def test_nobody_elses_entry_is_found(any_store: Any, other: Ask) -> None:
    keep(any_store, an_ask())
    assert any_store.perform(Look(other)).entry is None


def test_what_is_not_to_be_kept_is_not(any_store: Any) -> None:
    ask = an_ask()
    any_store.perform(Finish(ask, NO_STAMPS, led(any_store, ask), entry=an_entry(ask), keep=False, share=True))
    assert any_store.perform(Look(ask)).entry is None


def test_an_entry_is_gone_when_its_time_is_up_and_the_lineage_says_why(any_store: Any) -> None:
    ask = an_ask()
    keep(any_store, ask, life=0.05)
    while (seen := any_store.perform(Look(ask))).entry is not None:
        pass
    assert seen.reason == "expired"


def test_the_same_question_under_another_key_is_no_known_reason(any_store: Any) -> None:
    keep(any_store, an_ask())
    assert any_store.perform(Look(an_ask(key="j" * 64))).reason == "unknown"


def test_there_is_one_leader(any_store: Any) -> None:
    ask = an_ask()
    token = led(any_store, ask)
    turn = any_store.perform(Lead(ask, NO_STAMPS, since=0))

    assert isinstance(turn, Held)
    assert turn.token == token


def test_an_abandoned_lead_is_free_at_once(any_store: Any) -> None:
    ask = an_ask()
    assert any_store.perform(Finish(ask, NO_STAMPS, led(any_store, ask)))
    led(any_store, ask)


def test_who_refreshes_leads_though_an_entry_stands(any_store: Any) -> None:
    ask = an_ask()
    keep(any_store, ask)
    assert isinstance(any_store.perform(Lead(ask, NO_STAMPS, since=0, refresh=True)), Led)


def test_a_leader_that_is_not_the_leader_changes_nothing(any_store: Any) -> None:
    ask = an_ask()
    late = led(any_store, ask)
    any_store.perform(Finish(ask, NO_STAMPS, late))
    token = led(any_store, ask)

    assert not any_store.perform(Finish(ask, NO_STAMPS, late, entry=an_entry(ask, b"late"), keep=True, share=True))
    assert any_store.perform(Look(ask)).entry is None
    assert any_store.perform(Lead(ask, NO_STAMPS, since=0)).token == token


def test_a_failure_is_told_to_who_began_before_it_and_to_nobody_after(any_store: Any) -> None:
    ask = an_ask()
    any_store.perform(Finish(ask, NO_STAMPS, led(any_store, ask), failure=OVERLOADED))

    assert any_store.perform(Lead(ask, NO_STAMPS, since=1.0)) == OVERLOADED
    assert isinstance(any_store.perform(Lead(ask, NO_STAMPS, since=0)), Led)


def test_a_retry_takes_the_failure_of_a_retry_as_late_as_itself(any_store: Any) -> None:
    second = an_ask(attempt=2)
    any_store.perform(Finish(second, NO_STAMPS, led(any_store, second), failure=OVERLOADED))

    assert any_store.perform(Lead(an_ask(attempt=1), NO_STAMPS, since=0)) == OVERLOADED
    assert any_store.perform(Lead(an_ask(attempt=2), NO_STAMPS, since=0)) == OVERLOADED
    assert isinstance(any_store.perform(Lead(an_ask(attempt=3), NO_STAMPS, since=0)), Led)


def test_the_failure_of_a_credential_is_not_remembered_for_another(any_store: Any) -> None:
    poor, rich = an_ask(credential="poor"), an_ask(credential="rich")
    failure = Failure("status", 429, credential="poor")
    any_store.perform(Finish(poor, NO_STAMPS, led(any_store, poor), failure=failure))

    assert any_store.perform(Lead(poor, NO_STAMPS, since=1.0)) == failure
    assert isinstance(any_store.perform(Lead(rich, NO_STAMPS, since=1.0)), Led)


def test_a_timeout_is_not_remembered(any_store: Any) -> None:
    ask = an_ask()
    any_store.perform(Finish(ask, NO_STAMPS, led(any_store, ask), failure=Failure("timeout", timeout=1.0)))
    assert isinstance(any_store.perform(Lead(ask, NO_STAMPS, since=5.0)), Led)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("finish", "heard"),
    [
        ({"failure": OVERLOADED}, OVERLOADED),
        ({}, News.LOOK_AGAIN),
        ({"keep": False, "share": False, "entry": b"{}"}, News.NOT_SHARED),
        ({"keep": True, "share": True, "entry": b"answer"}, b"answer"),
        ({"keep": False, "share": True, "entry": b"answer"}, b"answer"),
    ],
)
def test_a_waiter_hears_how_it_ended_at_once(any_store: Any, colour: str, finish: dict[str, Any], heard: Any) -> None:
    ask = an_ask()
    token = led(any_store, ask)
    held = any_store.perform(Lead(ask, NO_STAMPS, since=0))
    if "entry" in finish:
        finish = {**finish, "entry": an_entry(ask, finish["entry"])}
    news: list[Any] = []

    def wait() -> None:
        operation = Wait(ask, held.token, 20)
        news.append(any_store.perform(operation) if colour == "sync" else asyncio.run(any_store.aperform(operation)))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began = time.monotonic()
    any_store.perform(Finish(ask, NO_STAMPS, token, **finish))
    waiter.join(10)

    assert time.monotonic() - began < 5
    got = news[0]
    assert (got.answer.body if isinstance(heard, bytes) else got) == heard


def test_a_waiter_that_hears_nothing_looks_again(any_store: Any) -> None:
    ask = an_ask()
    led(any_store, ask)
    held = any_store.perform(Lead(ask, NO_STAMPS, since=0))
    assert any_store.perform(Wait(ask, held.token, 0.05)) is News.LOOK_AGAIN


def test_the_switch_is_seen_at_the_next_look(any_store: Any) -> None:
    any_store.switch(False)
    assert not any_store.is_on()
    assert not any_store.perform(Look(an_ask())).enabled
    any_store.switch(True)
    assert any_store.perform(Look(an_ask())).enabled


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_who_waits_at_a_store_that_is_closed_is_told_so(any_store: Any, colour: str) -> None:
    ask = an_ask()
    led(any_store, ask)
    held = any_store.perform(Lead(ask, NO_STAMPS, since=0))
    outcome: list[Any] = []

    def wait() -> None:
        operation = Wait(ask, held.token, 20)
        try:
            outcome.append(
                any_store.perform(operation) if colour == "sync" else asyncio.run(any_store.aperform(operation))
            )
        except Unavailable as trouble:
            outcome.append(str(trouble))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    began = time.monotonic()
    any_store.close()
    waiter.join(10)
    wait()

    assert outcome == ["closed", "closed"]
    assert time.monotonic() - began < 5


def test_a_task_that_is_cancelled_while_it_leads_leaves_no_lease_behind(any_store: Any) -> None:
    ask = an_ask()

    async def main() -> None:
        await any_store.aperform(Lead(an_ask(key="j" * 64), NO_STAMPS, since=0))  # the connection stands
        for turns in range(12):
            asked = asyncio.create_task(any_store.aperform(Lead(ask, NO_STAMPS, since=0)))
            for _ in range(turns):
                await asyncio.sleep(0)
            if asked.done():
                break
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            deadline = time.monotonic() + 2
            while not isinstance(turn := await any_store.aperform(Lead(ask, NO_STAMPS, since=0)), Led):
                assert time.monotonic() < deadline, f"a lease of nobody's, cancelled after {turns} turns of the loop"
                await asyncio.sleep(0.01)
            await any_store.aperform(Finish(ask, NO_STAMPS, turn.token))

    asyncio.run(main())


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_large_answer_is_kept_whole_and_its_waiter_finds_it(any_store: Any, colour: str) -> None:
    ask = an_ask()
    token = led(any_store, ask)
    entry = an_entry(ask, os.urandom(5_000_000))
    finish = Finish(ask, NO_STAMPS, token, entry=entry, keep=True, share=True)
    assert any_store.perform(finish) if colour == "sync" else asyncio.run(any_store.aperform(finish))
    assert any_store.perform(Lead(ask, NO_STAMPS, since=0)) == entry


def test_a_trouble_of_the_leaders_own_lets_all_waiters_go_by_themselves(any_store: Any) -> None:
    ask = an_ask()
    token = led(any_store, ask)
    held = any_store.perform(Lead(ask, NO_STAMPS, since=0))
    any_store.perform(Finish(ask, NO_STAMPS, token, alone=True))
    assert any_store.perform(Wait(ask, held.token, 5)) is News.NOT_SHARED
