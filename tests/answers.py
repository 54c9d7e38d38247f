"""Answers that hang on tags, and a Redis that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import override_settings

import aicache
from aicache import upkeep
from aicache.core.tags import Tag
from aicache.models import InvalidationTag
from aicache.tenants import tenant_digest

AWAY = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}


def ask(question: str, *tags: str, tenant: Any = "acme") -> str:
    """Asks for an answer that hangs on these tags, and says what became of the call, such as "hit"."""
    with aicache.scope(tenant=tenant, tags=tags) as calls:
        aicache.remember({"question": question}, lambda: {"answer": question})
    (call,) = calls
    return call.status


def keep(number: int, *tags: str, tenant: Any = "acme") -> None:
    """Makes so many answers that hang on these tags."""
    assert [ask(f"{at} of {tags}", *tags, tenant=tenant) for at in range(number)] == ["miss"] * number


def index() -> None:
    """Lists the tags in use for the admin, and makes the names of the tests' tenants known."""
    upkeep.index_tags()
    for row in InvalidationTag.objects.filter(everybody=False, tenant=""):
        for tenant in ("acme", "globex"):
            if Tag(row.tag, tenant_digest(tenant)).digest == row.digest:
                row.tenant = tenant
                row.save()


@contextmanager
def without_redis() -> Iterator[None]:
    with override_settings(CACHES=AWAY):
        yield
