"""Tests that see nothing of each other, under any runner."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import Atomic
from django.test import override_settings

from aicache.cache import Cache, pinned
from aicache.freshness.outbox import left_behind
from aicache.ledger.counting import counts_of_its_own
from aicache.testing.memory import MemoryStore

logger = logging.getLogger("aicache")


@contextmanager
def isolated() -> Iterator[None]:
    """A namespace of its own: nothing that others stored or counted is seen, on a shared server too."""
    chosen = {**getattr(settings, "AICACHE", {}), "NAMESPACE": uuid.uuid4().hex}
    with override_settings(AICACHE=chosen), counts_of_its_own():
        yield


@contextmanager
def memory() -> Iterator[MemoryStore]:
    """A cache without a server, forgotten at the end. Yields its store; ``store.down = True`` plays an outage."""
    store = MemoryStore()
    with pinned(Cache(store)), counts_of_its_own():
        yield store


@contextmanager
def committing(using: str = "default") -> Iterator[None]:
    """Inside a ``TestCase``: ``on_commit`` hooks run where they would run in production, not never.

    That is at once outside of ``atomic``, else when the outermost ``atomic`` of the code under test ends well. The
    transaction that the test case itself is wrapped in does not count. What was saved before, as in ``setUpTestData``,
    counts as committed; of its hooks only the cache's own run.
    """
    connection: Any = connections[using]
    around = len(connection.savepoint_ids)
    earlier = len(connection.run_on_commit)
    register, leave = connection.on_commit, Atomic.__exit__

    def run() -> None:
        if connection.needs_rollback or len(connection.savepoint_ids) > around:
            return
        due = connection.run_on_commit[earlier:]
        del connection.run_on_commit[earlier:]
        for _, hook, robust in due:
            try:
                hook()
            except Exception:
                if not robust:
                    raise
                logger.exception("a robust on_commit hook failed")

    def on_commit(hook: Any, robust: bool = False) -> None:
        register(hook, robust)
        run()

    def leaving(atomic: Any, kind: Any, error: Any, trace: Any) -> None:
        leave(atomic, kind, error, trace)
        if kind is None and (atomic.using or DEFAULT_DB_ALIAS) == using and connections[using] is connection:
            run()

    before = left_behind(using)
    for hook in before:
        hook()
    # There is no hook for the end of an atomic, and one without a savepoint does not tell its connection.
    with patch.object(connection, "on_commit", on_commit), patch.object(Atomic, "__exit__", leaving):
        try:
            yield
        finally:
            for hook in before:  # the next test of the class begins where this one did
                hook.done = False


class CacheTestMixin:
    """For Django's test cases: each test has an empty cache, and its ``on_commit`` hooks run.

    ``class RefundTest(CacheTestMixin, TestCase)``. ``cache_in_memory = True`` needs no server.
    """

    cache_in_memory = False

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]  # the test case's
        stack = ExitStack()
        self.addCleanup(stack.close)  # type: ignore[attr-defined]  # the test case's
        stack.enter_context(memory() if self.cache_in_memory else isolated())
        databases = getattr(self, "databases", {"default"})
        for alias in connections if databases == "__all__" else databases:
            if connections[alias].in_atomic_block:  # a TransactionTestCase commits for real
                stack.enter_context(committing(alias))
