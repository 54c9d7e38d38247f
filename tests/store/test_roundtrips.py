"""How often the server is asked, counted by the server."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
import redis
from django.test import override_settings

import aicache
from aicache.core.operations import Capture, Finish, Lead, Look, Wait
from aicache.core.records import NO_STAMPS
from aicache.core.turns import News
from aicache.store import Address, Store, ear, news
from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey
from tests.claude.conftest import QUESTION
from tests.store.conftest import an_ask, an_entry

TIMES = 20


class Counted:
    """What a server did between two looks, without the looks."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port)
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        stats, commands = self._client.info("stats"), self._client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(told["calls"]) for name, told in commands.items()}
        return {"reads": int(stats["total_reads_processed"]), **calls}

    def since(self) -> dict[str, int]:
        now = self._now()
        self._client.close()
        more = {name: count - self._before.get(name, 0) for name, count in now.items()}
        more["reads"] -= 2  # of this look: its two INFO
        return {name: count for name, count in more.items() if count and name != "info"}


@pytest.fixture
def quiet() -> Iterator[int]:
    """The port of a server that nobody else uses."""
    with Valkey() as server:
        with override_settings(
            CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}}
        ):
            yield server.port


def test_a_hit_is_one_read_and_one_command(claude: ClaudeServer, quiet: int) -> None:
    with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme") as calls:
        client = aicache.wrap(plain)
        for _ in range(2):
            client.messages.create(**QUESTION)
        counted = Counted(quiet)
        for _ in range(TIMES):
            client.messages.create(**QUESTION)
        assert counted.since() == {"mget": TIMES, "reads": TIMES}

    assert [call.status for call in calls] == ["miss"] + ["hit"] * (TIMES + 1)


def test_an_async_hit_is_one_read_and_one_command(claude: ClaudeServer, quiet: int) -> None:
    async def main() -> dict[str, int]:
        async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)
            with aicache.scope(tenant="acme"):
                for _ in range(2):
                    await client.messages.create(**QUESTION)
                counted = Counted(quiet)
                for _ in range(TIMES):
                    await client.messages.create(**QUESTION)
                return counted.since()

    assert asyncio.run(main()) == {"mget": TIMES, "reads": TIMES}


def test_a_miss_is_three_round_trips_one_of_them_to_publish(claude: ClaudeServer, quiet: int) -> None:
    with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme"):
        client = aicache.wrap(plain)
        client.messages.create(**QUESTION)
        counted = Counted(quiet)
        for variant in range(1, TIMES + 1):
            with aicache.scope(variant=variant):
                client.messages.create(**QUESTION)
        told = counted.since()

    assert told["reads"] == 3 * TIMES
    assert told["evalsha"] == 2 * TIMES
    assert "eval" not in told


def test_no_key_holds_a_word_of_tenant_prompt_or_tag(claude: ClaudeServer, quiet: int) -> None:
    with anthropic.Anthropic(base_url=claude.url, api_key="secret-key") as plain:
        with aicache.scope(tenant="acme-and-sons", tags=["article:17"]):
            aicache.wrap(plain).messages.create(**QUESTION)

    with redis.Redis(port=quiet) as client:
        everything: dict[bytes, Any] = {key: client.dump(key) for key in client.keys("*")}
    assert everything
    for word in (b"acme", b"refund?", b"article:17", b"secret-key"):
        assert not any(word in key for key in everything)
    assert not any(b"secret-key" in dump for dump in everything.values())
    (listed,) = (key for key, dump in everything.items() if b"acme" in dump)
    assert listed.endswith(b":names")  # for the admin, which names the owners of tags


def test_a_process_that_listens_and_waits_for_nothing_sends_nothing(
    quiet: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "CHECK_EVERY", 0.1)
    store, other = (Store(Address((f"redis://127.0.0.1:{quiet}/0",)), "site") for _ in range(2))
    ask = an_ask()
    led = other.perform(Lead(ask, NO_STAMPS, since=0))
    held = store.perform(Lead(ask, NO_STAMPS, since=0))
    other.perform(Finish(ask, NO_STAMPS, led.token))
    assert store.perform(Wait(ask, held.token, 5)) is News.LOOK_AGAIN
    assert store.ear.listening

    counted = Counted(quiet)
    time.sleep(5 * ear.CHECK_EVERY)
    assert counted.since() == {}
    store.close()
    other.close()


def test_an_answer_for_its_leader_alone_is_not_sent(quiet: int) -> None:
    store = Store(Address((f"redis://127.0.0.1:{quiet}/0",)), "site")
    with redis.Redis(port=quiet) as client:
        for body, share in ((b"x" * 100_000, False), (os.urandom(news.MOST_TOLD + 1), True)):
            ask = an_ask()
            led = store.perform(Lead(ask, NO_STAMPS, since=0))
            before = client.info("stats")["total_net_input_bytes"]
            assert store.perform(Finish(ask, NO_STAMPS, led.token, entry=an_entry(ask, body), share=share))
            assert client.info("stats")["total_net_input_bytes"] - before < 10_000
    store.close()


def test_a_large_answer_is_packed_beside_the_loop(quiet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    packed_in: list[threading.Thread] = []

    def pack(finish: Finish) -> tuple[bytes, bytes]:
        packed_in.append(threading.current_thread())
        return message(finish)

    message = news.message
    monkeypatch.setattr(news, "message", pack)
    store = Store(Address((f"redis://127.0.0.1:{quiet}/0",)), "site")
    ask = an_ask()

    async def keep(body: bytes) -> None:
        stamps = await store.aperform(Capture(ask))
        led = await store.aperform(Lead(ask, stamps, since=0, refresh=True))
        entry = an_entry(ask, body, stamps=stamps)
        assert await store.aperform(Finish(ask, stamps, led.token, entry=entry, keep=True, share=True))
        assert (await store.aperform(Look(ask))).entry == entry

    async def main() -> None:
        await keep(b"small")
        await keep(os.urandom(news.BIG + 1))

    asyncio.run(main())
    store.close()
    assert [thread is threading.main_thread() for thread in packed_in] == [True, False]
