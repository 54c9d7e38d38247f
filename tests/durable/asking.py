"""Asks for values that hang on tags, and empties Redis."""

from __future__ import annotations

import os
from typing import Any

import redis

import aicache
from aicache.conf import get_settings
from aicache.durable import get_writer


def ask(question: str, *tags: str, tenant: Any = "acme", **scope: Any) -> aicache.CallInfo:
    with aicache.scope(tenant=tenant, tags=tags, **scope) as calls:
        assert aicache.remember({"question": question}, lambda: f"answer to {question}") == f"answer to {question}"
    (call,) = calls
    return call


def said(question: str, *tags: str, **scope: Any) -> tuple[str, str]:
    call = ask(question, *tags, **scope)
    return call.status, call.reason


def flush() -> None:
    """Redis forgets all that this test's site has in it; what was to be written to the database before that is.

    Other workers of the test run have theirs on the same server.
    """
    assert get_writer().flush(20)
    with redis.Redis.from_url(os.environ["AICACHE_TEST_REDIS"]) as server:
        for key in list(server.scan_iter(f"*{get_settings().namespace}*", count=1000)):
            server.delete(key)
