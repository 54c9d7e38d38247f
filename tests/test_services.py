"""The second lane: the same with servers as people run them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
import redis
from celery import Celery
from django.test import override_settings
from kombu import pools

import aicache
from aicache.testing import ClaudeServer
from tests.claude.together import held
from tests.services import SERVICES, queues

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]

ROOT = Path(__file__).parent.parent
MANY = 20
CHILDREN = 4


def url_of(name: str) -> str:
    """Where the service is. The lane has already failed where one that is promised does not answer."""
    if trouble := SERVICES[name].trouble():
        pytest.skip(f"{name} does not answer: {trouble}")
    return SERVICES[name].url


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def system_redis(namespace: str) -> Iterator[str]:
    """Its URL. What the test leaves in it is removed."""
    url = url_of("redis")
    yield url
    with redis.Redis.from_url(url) as connection:
        for key in connection.scan_iter(f"aicache:{namespace}:*", count=1000):
            connection.delete(key)


def ask_many(client: Any, question: dict[str, Any]) -> Counter[str]:
    """From as many threads at once, and then once more."""
    with aicache.scope(tenant="acme") as calls:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(lambda: client.messages.create(**question),))
            for _ in range(MANY)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.messages.create(**question)
    return Counter(call.status for call in calls)


async def aask_many(url: str, question: dict[str, Any]) -> Counter[str]:
    async with aicache.wrap(anthropic.AsyncAnthropic(base_url=url, api_key="for tests")) as client:
        with aicache.scope(tenant="acme") as calls:
            await asyncio.gather(*(client.messages.create(**question) for _ in range(MANY)))
            await client.messages.create(**question)
    return Counter(call.status for call in calls)


def question(text: str) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}


def test_many_at_once_are_one_call_at_the_systems_redis(
    claude: ClaudeServer, system_redis: str, namespace: str
) -> None:
    alias = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": system_redis}
    with override_settings(CACHES={"default": alias}, AICACHE={"NAMESPACE": namespace}):
        with anthropic.Anthropic(base_url=claude.url, api_key="for tests") as client, held(claude, (1, MANY - 1)):
            found = ask_many(aicache.wrap(client), question("from threads"))
        assert found == {"miss": 1, "coalesced": MANY - 1, "hit": 1}
        assert claude.count == 1
        with held(claude, (1, MANY - 1)):
            found = asyncio.run(aask_many(claude.url, question("from tasks")))
        assert found == {"miss": 1, "coalesced": MANY - 1, "hit": 1}
        assert claude.count == 2


@pytest.mark.parametrize("warm", ["", "1"], ids=["cold", "after-a-call-in-the-parent"])
def test_tasks_of_prefork_workers_are_paid_once(
    claude: ClaudeServer, system_redis: str, namespace: str, warm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICACHE_TEST_NAMESPACE", namespace)
    environment = {
        **os.environ,
        "AICACHE_TEST_CLAUDE": claude.url,
        "AICACHE_TEST_REDIS": system_redis,
        "AICACHE_TEST_RABBITMQ": url_of("rabbitmq"),
        "AICACHE_TEST_WARM": warm,
    }
    arguments = (
        f"-A tests.worker worker --pool prefork --concurrency {CHILDREN} --without-gossip --without-mingle -l WARNING"
    )
    worker = subprocess.Popen([sys.executable, "-m", "celery", *arguments.split()], cwd=ROOT, env=environment)
    rounds = [(1, 0), (1, CHILDREN - 1)] if warm else [(1, CHILDREN - 1)]
    try:
        sender = _sender(url_of("rabbitmq"), namespace)
        with held(claude, *rounds, waiters=lambda: waiting_processes(system_redis, namespace)):
            asked = [sender.send_task("ask", ["the same"]) for _ in range(8)]
            answers = [task.get(timeout=60) for task in asked]
        sender.backend.result_consumer.stop()  # its connections are its own, and the pools everybody's
        sender.close()
        pools.reset()
    finally:
        worker.terminate()
        worker.wait(30)
    statuses = Counter(status for status, _ in answers)
    assert statuses == {"miss": 1, "coalesced": CHILDREN - 1, "hit": len(answers) - CHILDREN}, answers
    assert len({process for status, process in answers if status != "hit"}) == CHILDREN
    assert claude.count == (2 if warm else 1)


def waiting_processes(url: str, namespace: str) -> int:
    """How many others a leader's lease names: the processes that shall hear how its call ended."""
    with redis.Redis.from_url(url) as connection:
        keys = list(connection.scan_iter(f"aicache:{namespace}:*", count=1000, _type="HASH"))
        leases = [key for key in keys if connection.hexists(key, "token")]
        return sum(b":" in field for lease in leases for field in connection.hkeys(lease))


def _sender(broker: str, namespace: str) -> Any:
    sender = Celery("sender", broker=broker, backend="rpc://")
    sender.conf.update(task_queues=queues(namespace), task_default_queue=queues(namespace)[0].name, result_expires=60)
    return sender
