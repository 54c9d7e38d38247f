"""What every store promises at the prompt-cache gate, and what Redis does of it by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import redis

from aicache.core.gating import Approach, Note, Observe, Quit, Scout, Stay, Way
from aicache.core.lag import FIRST, NO_LAG
from aicache.core.prefix import Prompt
from aicache.core.turns import News
from aicache.core.usage import Living, Mark, Usage
from aicache.store import Address, Store, leases
from aicache.store.leases import LEASE
from tests.claude.together import until
from tests.core.prompts import TOKENS, prompt
from tests.store.conftest import URL, keys_of


def come(store: Any, path: str, **choices: Any) -> Way:
    way: Way = store.perform(Approach(prompt(path), **choices))
    return way


def say(store: Any, path: str, read: int = 0, written: int | None = None, token: str = "") -> tuple[Living, ...]:
    asked = prompt(path)
    usage = Usage(read, TOKENS * len(path) - read if written is None else written)
    lived: tuple[Living, ...] = store.perform(Note(asked, tuple(asked.marks(usage)), read, token))
    return lived


def lead(store: Any, path: str) -> str:
    way = come(store, path)
    assert way.led is not None
    leading.append(way.led)  # for as long as the test: the lease is renewed
    return way.led.token


leading: list[Any] = []


def test_who_comes_first_leads_and_the_others_are_held(any_store: Any) -> None:
    token = lead(any_store, "ab")

    way = come(any_store, "ab")
    assert way.led is None
    assert way.held is not None
    assert way.held.token == token
    assert way.living is None


def test_who_begins_alike_waits_for_as_much_as_is_the_same(any_store: Any) -> None:
    token = lead(any_store, "ab")

    assert come(any_store, "abc").held.token == token  # type: ignore[union-attr]
    assert come(any_store, "ac").held.token == token  # type: ignore[union-attr]
    assert come(any_store, "xy").led is not None


def test_when_it_is_written_all_may_go(any_store: Any) -> None:
    token = lead(any_store, "ab")
    assert say(any_store, "ab", token=token) == ()

    way = come(any_store, "ab")
    assert (way.led, way.held) == (None, None)
    assert way.living is not None
    assert (way.living.at, way.living.tokens, way.living.is_exact) == (1, 2 * TOKENS, True)
    assert (way.living.is_read, way.living.is_written) == (False, True)
    assert 0 <= way.living.age < 5


def test_who_is_held_is_told_at_which_of_its_prefixes(any_store: Any) -> None:
    lead(any_store, "ab")
    assert come(any_store, "abcd").held_at == 1
    assert come(any_store, "acd").held_at == 0


def test_who_needs_more_leads_for_the_rest(any_store: Any) -> None:
    say(any_store, "ab", token=lead(any_store, "ab"))

    longer = come(any_store, "abc")
    assert longer.led is not None
    assert longer.living is not None
    assert longer.living.at == 1
    assert come(any_store, "ab").held is None


def test_a_leader_who_quits_passes_the_lead_on(any_store: Any) -> None:
    token = lead(any_store, "ab")
    any_store.perform(Quit(prompt("ab"), token))
    assert come(any_store, "ab").led is not None


def test_a_late_word_frees_nobody_elses_lease(any_store: Any) -> None:
    first = lead(any_store, "ab")
    any_store.perform(Quit(prompt("ab"), first))
    second = lead(any_store, "ab")
    any_store.perform(Quit(prompt("ab"), first))
    any_store.perform(Note(prompt("ab"), (), 0, first))

    assert come(any_store, "ab").held.token == second  # type: ignore[union-attr]


ENDS = {"written": News.LOOK_AGAIN, "failed": News.BROKE_OFF, "left": News.LOOK_AGAIN}


@pytest.mark.parametrize("colour", ["thread", "task"])
@pytest.mark.parametrize("ends", ENDS)
def test_who_stays_hears_how_it_ended(any_store: Any, colour: str, ends: str) -> None:
    token = lead(any_store, "ab")
    come(any_store, "ab")
    told: list[News] = []

    def stay() -> None:
        stays = Stay(prompt("ab"), token, 30)
        told.append(any_store.perform(stays) if colour == "thread" else asyncio.run(any_store.aperform(stays)))

    began = time.monotonic()
    waiting = threading.Thread(target=stay)
    waiting.start()
    if ends == "written":
        say(any_store, "ab", token=token)
    else:
        any_store.perform(Quit(prompt("ab"), token, has_failed=ends == "failed"))
    waiting.join(20)

    assert told == [ENDS[ends]]
    assert time.monotonic() - began < 10


def test_nobody_waits_for_what_turned_out_to_be_too_short(any_store: Any) -> None:
    say(any_store, "ab", written=0, token=lead(any_store, "ab"))

    way = come(any_store, "ab")
    assert (way.living, way.led, way.held) == (None, None, None)


def test_what_lived_is_told_to_who_says_that_it_has_written(any_store: Any) -> None:
    say(any_store, "ab")
    (shorter,) = say(any_store, "ax")
    whole = say(any_store, "ab")

    assert (shorter.at, shorter.tokens, shorter.is_exact) == (0, TOKENS, False)
    assert [(one.at, one.tokens, one.is_exact) for one in whole] == [(0, TOKENS, False), (1, 2 * TOKENS, True)]
    assert all(one.is_written for one in (shorter, *whole))


def test_who_has_read_does_not_count_as_who_has_written(any_store: Any) -> None:
    say(any_store, "ab", read=2 * TOKENS)
    assert not come(any_store, "ab").living.is_written  # type: ignore[union-attr]
    say(any_store, "ab")
    assert come(any_store, "ab").living.is_written  # type: ignore[union-attr]


def test_that_it_was_read_is_remembered(any_store: Any) -> None:
    say(any_store, "ab")
    say(any_store, "ab", read=2 * TOKENS)
    assert come(any_store, "ab").living.is_read  # type: ignore[union-attr]


def test_one_scouts(any_store: Any) -> None:
    assert any_store.perform(Scout(prompt("ab"), 1)) is False  # nothing is known of it
    say(any_store, "ab")
    assert [any_store.perform(Scout(prompt("ab"), 1)) for _ in range(3)] == [True, False, False]


def test_what_is_learned_is_known_to_all_of_the_model(any_store: Any) -> None:
    say(any_store, "ab")
    any_store.perform(Observe(prompt("ab"), 1, 0.0, read=False))

    assert come(any_store, "xy").lag.settle == FIRST


def test_only_the_first_who_says_so_counts(any_store: Any) -> None:
    say(any_store, "ab")
    for _ in range(5):
        any_store.perform(Observe(prompt("ab"), 1, 0.0, read=False))
    learned = come(any_store, "ab").lag
    any_store.perform(Observe(prompt("ab"), 1, FIRST, read=True))

    assert learned == NO_LAG.after(0.0, read=False)
    assert come(any_store, "ab").lag == learned.after(FIRST, read=True)


class TestOnRedis:
    def test_a_lease_that_nobody_renews_ends(self, store: Store, server: redis.Redis) -> None:
        gates = keys_of(store).gates(prompt("ab"))
        token = lead(store, "ab")
        store.leases.drop(token)
        assert len(gates) == 2
        assert all(0 < server.pttl(gate) <= LEASE * 1000 for gate in gates)
        for gate in gates:
            server.pexpire(gate, 1)
        until(lambda: come(store, "ab").led is not None, "the gate stays shut")

    def test_a_lease_is_renewed_at_each_gate_that_it_shuts(
        self, store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "RENEW_EVERY", 0.05)
        gates = keys_of(store).gates(prompt("abcd"))
        lead(store, "abcd")
        for gate in gates:
            server.pexpire(gate, 1500)
        until(lambda: all(server.pttl(gate) > 2000 for gate in gates), "a gate is not renewed")

    def test_a_lease_is_renewed_where_a_shorter_prefix_lives(
        self, store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "RENEW_EVERY", 0.05)
        say(store, "ab")
        lead(store, "abcd")
        free, *_, shut = keys_of(store).gates(prompt("abcd"))
        assert not server.exists(free)
        server.pexpire(shut, 1500)
        until(lambda: server.pttl(shut) > 2000, "the gate is not renewed")

    @pytest.mark.parametrize("ends", ENDS)
    def test_another_process_hears_of_it(self, store: Store, site: str, ends: str) -> None:
        other = Store(Address((URL,)), site)
        try:
            token = lead(store, "ab")
            held = come(other, "ab").held
            assert held is not None
            last = Quit(prompt("ab"), token, has_failed=ends == "failed")
            end = (lambda: say(store, "ab", token=token)) if ends == "written" else (lambda: store.perform(last))
            said = threading.Timer(0.2, end)
            began = time.monotonic()
            said.start()
            told = other.perform(Stay(prompt("ab"), held.token, 30))
            assert told is ENDS[ends]
            assert time.monotonic() - began < 5
        finally:
            other.close()

    def test_everything_has_its_end(self, store: Store, server: redis.Redis, site: str) -> None:
        say(store, "abc", token=lead(store, "abc"))
        lead(store, "abx")
        store.perform(Observe(prompt("abc"), 2, 0.0, read=False))
        store.perform(Scout(prompt("abc"), 2))
        store.perform(Scout(prompt("unknown"), 1))
        keys = list(server.scan_iter(f"aicache:*{site}*", count=1000))

        assert len(keys) >= 5
        assert all(server.pttl(key) > 0 for key in keys)

    @pytest.mark.parametrize("number", range(8))
    def test_any_key_may_go(self, store: Store, server: redis.Redis, site: str, number: int) -> None:
        say(store, "abc", token=lead(store, "abc"))
        lead(store, "abx")
        store.perform(Observe(prompt("abc"), 2, 0.0, read=False))
        keys = sorted(server.scan_iter(f"aicache:*{site}*", count=1000))
        if number >= len(keys):
            assert number >= 5
            return
        server.delete(keys[number])

        for path in ("abc", "abx", "ab"):
            way = come(store, path)
            assert way.held is None or way.held.token
            store.perform(Observe(prompt(path), 1, 0.0, read=True))
            say(store, path)
            assert come(store, path).living is not None

    def test_what_another_version_wrote_of_a_lag_is_forgotten(self, store: Store, server: redis.Redis) -> None:
        server.set(keys_of(store).lag(prompt("ab")), b'{"settle": 3}')
        assert come(store, "ab").lag == NO_LAG

    def test_the_life_of_a_prefix_is_that_of_its_breakpoint(self, store: Store, server: redis.Redis) -> None:
        asked = prompt("ab")
        marks = (Mark(0, 3600.0, TOKENS, is_exact=False), Mark(1, 300.0, 2 * TOKENS, is_exact=True))
        store.perform(Note(asked, marks, 0))
        long, short = (server.pttl(key) / 1000 for key in keys_of(store).prefixes(asked))

        assert 3500 < long < 3600
        assert 200 < short < 300

    def test_a_read_lets_it_live_on(self, store: Store, server: redis.Redis) -> None:
        say(store, "ab")
        key = keys_of(store).prefixes(prompt("ab"))[1]
        server.pexpire(key, 5000)
        longer: Prompt = prompt("abc")
        store.perform(Note(longer, (), 2 * TOKENS))  # by look-back: it ends at none of this one's breakpoints
        assert server.pttl(key) > 200_000


def test_a_prompt_names_what_it_is_by_digests_alone(store: Store) -> None:
    names = [*keys_of(store).prefixes(prompt("secret")), keys_of(store).lag(prompt("secret"))]
    assert not any("secret" in name or "workspace" in name for name in names)
