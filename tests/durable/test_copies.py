"""A living answer outlives Redis; a dead one does not."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import aicache
from aicache.core.tags import Tag, of_answer
from aicache.database import BUDGET
from aicache.durable import copies, get_writer
from aicache.models import CacheEntry, Invalidation
from aicache.purge import Purge, carry_out
from aicache.store.payload import FORMAT
from aicache.tenants import tenant_digest
from aicache.testing.isolation import CacheTestMixin
from tests.durable.asking import ask, flush, said
from tests.freshness.library.models import Article

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("aicache_isolated"),
]


def test_a_living_answer_is_a_hit_from_the_database_and_then_one_from_redis() -> None:
    ask("why?", "shop")
    flush()
    first, second = ask("why?", "shop"), ask("why?", "shop")
    assert (first.status, first.reason, first.stored) == ("hit", "copy", True)
    assert (second.status, second.reason) == ("hit", "")


def test_it_keeps_the_age_and_the_life_that_it_had() -> None:
    ask("why?", policy="static")
    CacheEntry.objects.update(hits=5)
    flush()
    first = ask("why?", policy="static")
    assert first.age > 0
    assert first.expires_in is not None
    assert 28 * 86400 < first.expires_in <= 30 * 86400
    assert CacheEntry.objects.get().hits == 5


def test_the_row_says_what_it_is() -> None:
    article = Article.objects.create(title="Refunds", body="")
    ask("why?", "shop", sources=[article], policy="daily")
    flush()
    row = CacheEntry.objects.get()
    assert (row.tenant, row.everybody, row.policy, row.tokens, row.cost_usd) == ("acme", False, "daily", 0, None)
    assert {"library.article", f"library.article:{article.pk}", "shop"} <= set(row.tags)
    assert [label for label, _ in row.sources] == [f"library.article:{article.pk}"]
    assert row.created_at <= timezone.now() < row.fresh_until <= row.expires_at
    assert row.request is None


def test_the_request_is_kept_only_where_it_is_asked_for(settings: Any) -> None:
    with override_settings(AICACHE={**settings.AICACHE, "STORE_REQUESTS": True}):
        ask("why?")
        flush()
    assert json.loads(CacheEntry.objects.get().request or "") == {"request": {"question": "why?"}}


def test_another_tenant_has_none_of_it() -> None:
    ask("why?")
    flush()
    assert said("why?", tenant="globex") == ("miss", "new")


def test_a_bumped_namespace_retires_it(settings: Any) -> None:
    ask("why?")
    flush()
    with override_settings(AICACHE={**settings.AICACHE, "NAMESPACE": "bumped"}):
        assert said("why?") == ("miss", "new")


class TestDead:
    def test_what_was_invalidated_is_not_brought_back(self) -> None:
        ask("why?", "shop")
        aicache.invalidate("shop", tenant="acme")
        flush()
        assert said("why?", "shop") == ("miss", "invalidated:shop")
        flush()
        assert said("why?", "shop") == ("hit", "copy")

    def test_nor_what_was_invalidated_for_everybody(self) -> None:
        ask("why?", "shop")
        aicache.invalidate("shop", tenant=aicache.GLOBAL)
        flush()
        assert said("why?", "shop") == ("miss", "invalidated:shop")

    def test_nor_what_is_pending(self) -> None:
        """Committed, and no stamp could be drawn: what has forgotten the stamps does not know it."""
        ask("why?", "shop")
        flush()
        outbox_only("shop")
        assert said("why?", "shop") == ("miss", "invalidated:shop")

    def test_nor_what_was_made_from_another_version(self) -> None:
        article = Article.objects.create(title="Refunds", body="Within 30 days.")
        ask("why?", sources=[article])
        flush()
        Article.objects.update(body="Within 14 days.")
        assert said("why?", sources=[Article.objects.get()]) == ("miss", f"source_changed:library.article:{article.pk}")

    def test_nor_what_has_expired(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ask("why?")
        flush()
        monkeypatch.setattr(copies, "time", Later(timedelta(days=1)))
        assert said("why?") == ("miss", "expired")

    def test_nor_what_cannot_be_read(self) -> None:
        ask("why?")
        flush()
        CacheEntry.objects.update(payload=bytes([FORMAT + 1]) + b"of another version")
        assert said("why?") == ("miss", "new")
        flush()
        assert said("why?") == ("hit", "copy")

    def test_nor_what_is_invalidated_while_the_call_goes_on(self) -> None:
        def call() -> str:
            aicache.invalidate("shop", tenant="acme")
            return "old"

        with aicache.scope(tenant="acme", tags=["shop"]) as calls:
            aicache.remember({"question": "why?"}, call)
        assert calls.last is not None
        assert calls.last.reason == "superseded"
        flush()
        assert said("why?", "shop")[0] == "miss"

    def test_nor_what_a_refresh_has_replaced(self) -> None:
        values = iter(["old", "new"])
        for refresh in (False, True):
            with aicache.scope(tenant="acme", refresh=refresh):
                aicache.remember({"question": "why?"}, lambda: next(values))
        flush()
        with aicache.scope(tenant="acme"):
            assert aicache.remember({"question": "why?"}, lambda: "newer") == "new"


class TestRefused:
    """A copy that its reader's own policy does not take."""

    def test_it_says_so(self, settings: Any) -> None:
        ask("why?", policy="static")
        flush()
        policies = {"POLICIES": {"short": {"ttl": 0.01}}}
        with override_settings(AICACHE={**settings.AICACHE, **policies}):
            time.sleep(0.02)
            assert said("why?", policy="short") == ("miss", "policy")


class TestPurged:
    """A single answer, by the tag that only it has."""

    def test_it_is_gone_from_redis_and_from_the_database(self) -> None:
        call = ask("why?", "shop")
        ask("who?", "shop")
        purge(call)
        assert said("why?", "shop") == ("miss", "invalidated:answer")
        assert said("who?", "shop") == ("hit", "")

    def test_so_is_one_without_any_tag(self) -> None:
        purge(ask("why?"))
        flush()
        assert said("why?") == ("miss", "invalidated:answer")
        assert said("why?") == ("hit", "")

    def test_a_call_under_way_does_not_bring_it_back(self) -> None:
        lines = {"first": threading.Event(), "purged": threading.Event()}

        def call() -> str:
            lines["first"].set()
            assert lines["purged"].wait(20)
            return "answer to why?"

        told: list[Any] = []

        def slow() -> None:
            with aicache.scope(tenant="acme", refresh=True) as calls:
                aicache.remember({"question": "why?"}, call)
            told.extend(calls)

        answered = ask("why?")
        thread = threading.Thread(target=slow)
        thread.start()
        assert lines["first"].wait(20)
        purge(answered)
        # Who begins now neither waits for the call from before, nor takes its answer.
        assert said("why?")[0] == "miss"
        lines["purged"].set()
        thread.join(20)
        assert (told[0].status, told[0].reason, told[0].stored) == ("miss", "superseded", False)
        assert said("why?")[0] == "hit"

    def test_inside_the_transaction_that_purges_it_is_not_served(self) -> None:
        call = ask("why?")
        with transaction.atomic():
            purge(call)
            assert said("why?") == ("bypass", "uncommitted:answer")
        assert said("why?")[0] == "miss"


class TestOutOfTheWay:
    def test_it_costs_the_callers_connection_no_query(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            ask("why?", "shop")
            flush()
            ask("why?", "shop")
        assert not queries.captured_queries

    def test_without_durable_there_are_no_copies(self, settings: Any) -> None:
        with override_settings(AICACHE={**settings.AICACHE, "DURABLE": False}):
            ask("why?", "shop")
            flush()
            assert said("why?", "shop") == ("miss", "new")
        assert not CacheEntry.objects.exists()

    def test_a_database_that_is_away_costs_nothing_but_the_copies(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(tags: Any) -> Any:
            raise OperationalError("no route to host")

        with monkeypatch.context() as patched:
            patched.setattr(copies, "generations", away)
            assert [said(f"why {at}?", "shop")[0] for at in range(5)] == ["miss"] * 5
            assert said("why 0?", "shop") == ("hit", "")
        assert [record.getMessage() for record in caplog.records] == [
            "the database fails (OperationalError: no route to host): copies of answers are not read"
        ]
        assert not CacheEntry.objects.exists()

    @pytest.mark.impatient
    def test_one_that_hangs_is_not_waited_for_by_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on = threading.Event()
        monkeypatch.setattr(copies, "generations", lambda tags: go_on.wait(20) and ())
        began = time.monotonic()
        for at in range(5):
            ask(f"why {at}?", "shop")
        took = time.monotonic() - began
        go_on.set()
        assert took < 2 * BUDGET


def test_a_late_write_does_not_take_a_newer_ones_place() -> None:
    ask("why?")
    flush()
    row = CacheEntry.objects.values().get()
    older = {**row, "created_at": row["created_at"] - timedelta(seconds=1), "payload": b"older"}
    del older["id"], older["digest"]
    copies._upsert("default", row["digest"], older)
    assert bytes(CacheEntry.objects.get().payload) == bytes(row["payload"])


class Later:
    """A clock that is ahead by so much."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead.total_seconds()

    def time(self) -> float:
        return time.time() + self._ahead


def outbox_only(tag: str) -> None:
    """As a saver leaves it that was killed after its commit."""
    digest = Tag(tag, tenant_digest("acme")).digest
    Invalidation.objects.create(digest=digest, tag=tag, tenant="acme", made_at=timezone.now())


def purge(call: aicache.CallInfo) -> None:
    assert get_writer().flush(20)
    row = CacheEntry.objects.get(key=call.key)
    carry_out([Purge((of_answer(row.lineage, row.key, row.owner),), None)])


class InATestCase(CacheTestMixin, TestCase):
    """Nobody else sees into its transaction, so copies are written and read there and then."""

    databases = {"default", "other"}  # noqa: RUF012 - Django's own way

    def test_copies_are_there_at_once(self) -> None:
        ask("why?", "shop")
        assert CacheEntry.objects.count() == 1
        flush()
        assert said("why?", "shop") == ("hit", "copy")

    def test_and_gone_with_the_test(self) -> None:
        assert CacheEntry.objects.count() == 0
        ask("why?", "shop")
