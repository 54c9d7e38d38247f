"""A Celery application whose task asks Claude; `celery -A tests.worker worker` runs it in processes of its own.

``AICACHE_TEST_CLAUDE``, ``AICACHE_TEST_REDIS``, ``AICACHE_TEST_RABBITMQ`` and ``AICACHE_TEST_NAMESPACE`` say where.
"""

from __future__ import annotations

import os

import anthropic
import django
from celery import Celery
from django.conf import settings

import aicache
from tests.services import queues

NAMESPACE = os.environ["AICACHE_TEST_NAMESPACE"]

settings.configure(
    CACHES={
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["AICACHE_TEST_REDIS"]},
    },
    INSTALLED_APPS=["aicache"],
    AICACHE={"NAMESPACE": NAMESPACE},
    USE_TZ=True,
)
django.setup()

app = Celery("worker", broker=os.environ["AICACHE_TEST_RABBITMQ"], backend="rpc://")
app.conf.update(
    task_queues=queues(NAMESPACE), task_default_queue=queues(NAMESPACE)[0].name, worker_prefetch_multiplier=1
)

# Made in the parent, used in its children: what an unsuspecting site does.
client = aicache.wrap(anthropic.Anthropic(base_url=os.environ["AICACHE_TEST_CLAUDE"], api_key="for tests"))


def ask(question: str) -> str:
    with aicache.scope(tenant="acme") as calls:
        client.messages.create(model="claude-sonnet-5", max_tokens=50, messages=[{"role": "user", "content": question}])
    assert calls.last is not None
    return calls.last.status


@app.task(name="ask")  # type: ignore[untyped-decorator]
def asking(question: str) -> tuple[str, int]:
    return ask(question), os.getpid()


if os.environ.get("AICACHE_TEST_WARM"):
    ask("Asked in the parent, before any child is forked")
