"""Everything works on a cluster: no command and no script touches two slots."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.core.gating import Approach
from aicache.core.operations import Finish, Lead, Look, Wait
from aicache.core.records import NO_STAMPS
from aicache.core.turns import News
from aicache.store import Address, Store, ear, links
from aicache.testing import ClaudeServer, Reply
from aicache.testing.valkey import Valkey
from tests.claude import prompts
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import held, together
from tests.core.prompts import prompt as a_prompt
from tests.store.cluster import cluster
from tests.store.conftest import an_ask, names_of
from tests.store.tagged import ARTICLE, found, keep, look, question


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Valkey]]:
    with cluster() as nodes:
        yield nodes


@pytest.fixture(params=["said so", "found out"])
def alias(request: pytest.FixtureRequest, nodes: list[Valkey]) -> Iterator[None]:
    """The alias may say that it is a cluster, or leave it to be found out."""
    options: dict[str, Any] = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"} if request.param == "said so" else {}
    alias = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": nodes[0].url, "OPTIONS": options}
    with override_settings(CACHES={"default": alias}, AICACHE={"NAMESPACE": secrets.token_hex(8)}):
        yield


@pytest.fixture(params=["sync", "async"])
def asker(request: pytest.FixtureRequest, claude: ClaudeServer, alias: None) -> Asker:
    return Asker(request.param, claude.url)


def test_questions_on_every_node_are_paid_once(asker: Asker, claude: ClaudeServer) -> None:
    questions = [{**QUESTION, "system": f"Question {number}"} for number in range(12)] * 2

    def ask(client: Any) -> None:
        for asked in questions:
            client.messages.create(**asked)

    async def aask(client: Any) -> None:
        for asked in questions:
            await client.messages.create(**asked)

    with aicache.scope(tenant=asker.colour) as calls:
        asker.run(ask if asker.colour == "sync" else aask)

    assert [call.status for call in calls] == ["miss"] * 12 + ["hit"] * 12


def test_duplicates_share_a_call(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant=asker.colour):
        for number in range(3):
            with aicache.scope(variant=number) as calls, held(claude, (1, 19)):
                together(asker, 20)
            assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 19}


def test_failures_and_leases_work_too(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant=asker.colour):
        with aicache.scope() as calls, held(claude, (1, 9), (1, 9), replies=[Reply.error(529, retry_after=0.2)]):
            together(asker, 10, client={"max_retries": 2})

    assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 9}


def test_the_switch_works_too(asker: Asker) -> None:
    with aicache.scope(tenant=asker.colour) as calls:
        get_cache().store.switch(False)
        asker.create()
        get_cache().store.switch(True)
        asker.create()

    assert [call.status for call in calls] == ["bypass", "miss"]


def test_it_is_said_that_a_cluster_was_found(asker: Asker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with aicache.scope(tenant=asker.colour) as calls:
        for number in range(5):
            asker.create(system=f"Question {number} of nobody else")

    assert [call.status for call in calls] == ["miss"] * 5
    said = [record.getMessage() for record in caplog.records if record.name == "aicache.store"]
    assert [line.partition(" is a cluster")[1] for line in said] in ([], [" is a cluster"])


@pytest.fixture(params=["said so", "found out"])
def store(request: pytest.FixtureRequest, nodes: list[Valkey]) -> Iterator[Store]:
    options: dict[str, Any] = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"} if request.param == "said so" else {}
    store = Store(Address((nodes[0].url,), options), secrets.token_hex(8))
    yield store
    store.close()


def test_leases_on_every_node_are_renewed_together(store: Store) -> None:
    asks = [an_ask(lineage=f"{number:064x}") for number in range(30)]
    led = [store.perform(Lead(ask, NO_STAMPS, since=0)) for ask in asks]
    leases = [(names_of(store, ask), turn.token) for ask, turn in zip(asks, led, strict=True)]

    assert store._renew([*leases, (leases[0][0], "another")]) == [True] * 30 + [False]
    for ask, turn in zip(asks, led, strict=True):
        store.perform(Finish(ask, NO_STAMPS, turn.token))


def test_a_subscription_to_a_node_is_asked_whether_it_stands(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "CHECK_EVERY", 0.05)
    ask = an_ask()
    led = store.perform(Lead(ask, NO_STAMPS, since=0))
    held = store.perform(Lead(ask, NO_STAMPS, since=0))
    store.leases.drop(led.token)  # as another process's
    began = time.monotonic()

    assert store.perform(Wait(ask, held.token, 0.5)) is News.LOOK_AGAIN
    assert time.monotonic() - began >= 0.5  # many pings later
    assert store.ear.listening
    store.perform(Finish(ask, NO_STAMPS, led.token))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_node_with_the_stamps_is_asked_now_and_then_who_it_is(
    store: Store, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "CHECK_EVERY", 0.0)
    compared: list[str] = []
    compare = links.Link._compare
    monkeypatch.setattr(links.Link, "_compare", lambda *told: (compared.append(told[1]), compare(*told))[1])
    ask = question()
    keep(store, ask)

    async def looks() -> list[Any]:
        return [await store.aperform(Look(ask)) for _ in range(20)]

    compared.clear()
    seen = asyncio.run(looks()) if colour == "async" else [look(store, ask) for _ in range(20)]
    assert all(one.entry is not None for one in seen)
    assert len(compared) >= 20
    assert not store.connections.breaker.down


def test_what_hangs_on_a_tag_is_counted_and_freed_on_every_node(store: Store, nodes: list[Valkey]) -> None:
    asks = [question(str(number)) for number in range(30)]
    for ask in asks:
        keep(store, ask)
    assert store.counts([ARTICLE]) == [30]
    assert {tag for tag, _ in store.names()} == set(asks[0].tags)
    store.stamp([ARTICLE])
    keep(store, asks[0], b"made anew")
    assert store.counts([ARTICLE]) == [1]

    for node in nodes:
        with redis.Redis(port=node.port) as client:
            client.script_flush()
    assert store.reclaim(100) == (29, True)
    assert found(store, asks[0]).answer.body == b"made anew"


def test_calls_that_begin_alike_write_that_once(nodes: list[Valkey], alias: None, claude: ClaudeServer) -> None:
    asker, prefixes = Asker("sync", claude.url), [prompts.system() for _ in range(6)]
    chosen = {**settings.AICACHE, "POLICIES": prompts.policies(settle="adaptive")}
    with override_settings(AICACHE=chosen), aicache.scope(tenant="acme", policy="gated") as calls:
        for prefix in prefixes:
            for colour in ("sync", "async"):
                asker.colour = colour
                asker.create(**prompts.question(f"Asked by {colour}", system=prefix))

    assert Counter(call.prompt_cache for call in calls) == {"lead": 6, "open": 6}
    assert calls.last is not None
    assert get_cache().store.perform(Approach(a_prompt("abc"))).led is not None
