from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicache.core.operations import Capture
from aicache.core.policy import Policy
from aicache.core.records import NO_STAMPS, Answer, Ask, Entry, Stamps
from aicache.store import Address, Store
from aicache.store.keys import Keys
from aicache.store.scripts import Plan
from aicache.testing.memory import MemoryStore

URL = os.environ["AICACHE_TEST_REDIS"]
POLICY = Policy("default")


def an_ask(**changes: Any) -> Ask:
    return Ask(**{"key": "k" * 64, "lineage": "l" * 64, "tenant": "t" * 32, "policy": POLICY, **changes})


def an_entry(
    ask: Ask, body: bytes = b"{}", life: float = 60.0, now: float | None = None, stamps: Stamps = NO_STAMPS
) -> Entry:
    import time

    now = time.time() if now is None else now
    return Entry(ask.key, ask.tenant, Answer(body), now, now + life, now + life, stamps)


def taken(store: Store | MemoryStore, ask: Ask) -> Stamps:
    """How the tags stand now: those of an answer that is to be found again."""
    stamps: Stamps = store.perform(Capture(ask))
    return stamps


def keys_of(store: Store) -> Keys:
    """As the server that answers now makes them."""

    def plan(keys: Keys, _: bool) -> Plan:
        return keys
        yield

    keys: Keys = store.connections.run(plan)
    return keys


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(URL) as client:
        yield client


@pytest.fixture
def site() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def store(site: str) -> Iterator[Store]:
    store = Store(Address((URL,)), site)
    yield store
    store.close()


@pytest.fixture(params=["redis", "memory"])
def any_store(request: pytest.FixtureRequest, site: str) -> Iterator[Store | MemoryStore]:
    store: Store | MemoryStore = Store(Address((URL,)), site) if request.param == "redis" else MemoryStore()
    yield store
    store.close()


def names_of(store: Store, ask: Ask, stamps: Stamps = NO_STAMPS) -> tuple[str, str, str]:
    """By what a lease is renewed: its own key, its answer's mark, and what there is of a stream."""
    keys = keys_of(store)
    return keys.lease(ask, stamps), keys.mark(ask), keys.live(ask, stamps)
