from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from aicache.core.policy import Policy
from aicache.core.records import Answer, Ask, Entry
from aicache.store import Address, Store
from aicache.testing.memory import MemoryStore

URL = os.environ["AICACHE_TEST_REDIS"]
POLICY = Policy("default")


def an_ask(**changes: Any) -> Ask:
    return Ask(**{"key": "k" * 64, "lineage": "l" * 64, "tenant": "t" * 32, "policy": POLICY, **changes})


def an_entry(ask: Ask, body: bytes = b"{}", life: float = 60.0, now: float | None = None) -> Entry:
    import time

    now = time.time() if now is None else now
    return Entry(ask.key, ask.tenant, Answer(body), now, now + life, now + life)


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
