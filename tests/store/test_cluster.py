"""Everything works on a cluster: no command and no script touches two slots."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.core.operations import Finish, Lead, News, Wait
from aicache.store import Address, Store, ear
from aicache.testing import ClaudeServer, Reply
from aicache.testing.valkey import Valkey
from tests.claude.conftest import Asker
from tests.claude.together import together
from tests.store.cluster import cluster
from tests.store.conftest import an_ask


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
    with aicache.scope(tenant=asker.colour) as calls:
        for _ in range(2):
            for number in range(12):
                asker.create(system=f"Question {number}")

    assert [call.status for call in calls] == ["miss"] * 12 + ["hit"] * 12


def test_duplicates_share_a_call(asker: Asker, claude: ClaudeServer) -> None:
    claude.latency = 1.0
    with aicache.scope(tenant=asker.colour):
        for number in range(3):
            with aicache.scope(variant=number) as calls:
                together(asker, 20)
            assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 19}


def test_failures_and_leases_work_too(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant=asker.colour):
        claude.script(Reply.error(529, retry_after=0.2))
        claude.latency = 0.2
        with aicache.scope() as calls:
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
    assert [record.getMessage().partition(" is a cluster")[1] for record in caplog.records] in ([], [" is a cluster"])


@pytest.fixture(params=["said so", "found out"])
def store(request: pytest.FixtureRequest, nodes: list[Valkey]) -> Iterator[Store]:
    options: dict[str, Any] = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"} if request.param == "said so" else {}
    store = Store(Address((nodes[0].url,), options), secrets.token_hex(8))
    yield store
    store.close()


def test_leases_on_every_node_are_renewed_together(store: Store) -> None:
    asks = [an_ask(lineage=f"{number:064x}") for number in range(30)]
    led = [store.perform(Lead(ask, since=0)) for ask in asks]
    leases = [(store.keys.lease(ask), turn.token) for ask, turn in zip(asks, led, strict=True)]

    assert store._renew([*leases, (leases[0][0], "another")]) == [True] * 30 + [False]
    for ask, turn in zip(asks, led, strict=True):
        store.perform(Finish(ask, turn.token))


def test_a_subscription_to_a_node_is_asked_whether_it_stands(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "CHECK_EVERY", 0.1)
    ask = an_ask()
    led = store.perform(Lead(ask, since=0))
    held = store.perform(Lead(ask, since=0))
    store.leases.drop(led.token)  # as another process's
    began = time.monotonic()

    assert store.perform(Wait(ask, held.token, 1.0)) is News.LOOK_AGAIN
    assert time.monotonic() - began >= 1.0  # many pings later
    assert store.ear.listening
    store.perform(Finish(ask, led.token))
