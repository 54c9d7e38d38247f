"""One answer for a name: under an idempotency key a call is made once, and its answer is given again for a day."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from datetime import timedelta
from typing import Any

import anthropic
import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import aicache
from aicache import sqlite
from aicache.cache import get_cache
from aicache.core import once
from aicache.core.fingerprint import Question
from aicache.core.operations import Busy, Pause
from aicache.core.policy import Policy
from aicache.core.records import Ask, Pin, Served
from aicache.durable.claims import Claims
from aicache.durable.copies import Copies
from aicache.durable.work import Work
from aicache.errors import ArgumentError
from aicache.models import IdempotencyKey
from aicache.testing import ClaudeServer, Reply
from tests.answers import without_redis
from tests.claude.conftest import Asker
from tests.claude.together import auntil, held, in_threads, together, until
from tests.durable.asking import flush
from tests.freshness.library.models import Article

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


OTHER = [{"role": "user", "content": "How do I pay?"}]


def ask(asker: Asker, key: str | None = "order-42", *, tenant: Any = "acme", **changes: Any) -> tuple[Any, Any]:
    """→ the CallInfo, and the message. What is no argument of a scope's is one of the request's."""
    named = {"sources", "tags", "policy", "vary", "locale", "variant", "refresh", "bypass"}
    scope = {name: value for name, value in changes.items() if name in named}
    request = {name: value for name, value in changes.items() if name not in named}
    with aicache.scope(tenant=tenant, idempotency_key=key, **scope) as calls:
        message = asker.create(**request)
    assert calls.last is not None
    return calls.last, message


def test_the_same_request_is_answered_the_same_again(asker: Asker, claude: ClaudeServer) -> None:
    first, made = ask(asker)
    again, repeated = ask(asker)
    assert (first.status, again.status, again.reason) == ("miss", "hit", "idempotency_key")
    assert repeated.model_dump() == made.model_dump()
    assert aicache.info(repeated) == again
    assert claude.count == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply.tool_use("refund", {"order": 42}),
        Reply.text("…", stop_reason="max_tokens"),
        Reply.text("…", stop_reason="pause_turn"),
        Reply.text("…", stop_reason="refusal"),
    ],
    ids=lambda reply: reply.stop_reason,
)
def test_so_is_what_no_policy_would_store(asker: Asker, claude: ClaudeServer, reply: Reply) -> None:
    claude.script(reply)
    first, made = ask(asker)
    again, repeated = ask(asker)
    assert (first.stored, again.status) == (False, "hit")
    assert repeated.model_dump() == made.model_dump()
    assert claude.count == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"extra_body": {"container": "c_1"}},
        {"max_tokens": 0},
    ],
    ids=["server tool", "container", "prewarm"],
)
def test_so_is_what_the_cache_would_not_look_at(asker: Asker, claude: ClaudeServer, changes: dict[str, Any]) -> None:
    first, _ = ask(asker, **changes)
    again, _ = ask(asker, **changes)
    assert (first.status, again.status, again.reason) == ("bypass", "hit", "idempotency_key")
    assert claude.count == 1
    assert ask(asker, None, **changes)[0].status == "bypass"


def test_a_key_may_be_the_requests_header_and_is_not_sent(asker: Asker, claude: ClaudeServer) -> None:
    header = {"extra_headers": {"Idempotency-Key": "order-42"}}
    ask(asker, None, policy="retry", **header)
    again, _ = ask(asker, None, policy="retry", **header)
    assert again.reason == "idempotency_key"
    assert "idempotency-key" not in {name.lower() for call in claude.calls for name in call.headers}
    assert ask(asker, "order-42")[0].reason == "idempotency_key"


def test_the_header_is_nearer_than_the_scope(asker: Asker) -> None:
    ask(asker, "order-42")
    told, _ = ask(asker, "order-42", messages=OTHER, extra_headers={"Idempotency-Key": "order-43"})
    assert told.status == "miss"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"messages": OTHER}, "body.messages[0]"),
        ({"model": "claude-opus-5"}, "body.model"),
        ({"max_tokens": 5}, "body.max_tokens"),
        ({"system": "Be brief."}, "body.system[0]"),
        ({"extra_body": {"temperature": 0.5}}, "body.temperature"),
        ({"extra_headers": {"anthropic-beta": "new"}}, "betas"),
        ({"extra_headers": {"x-of-its-own": "new"}}, "headers.x-of-its-own"),
        ({"locale": "de"}, "locale"),
        ({"vary": ["v2"]}, "vary"),
        ({"variant": 1}, "variant"),
    ],
)
def test_another_request_is_a_conflict_that_names_what_differs(
    asker: Asker, claude: ClaudeServer, changes: dict[str, Any], part: str
) -> None:
    ask(asker)
    with pytest.raises(aicache.IdempotencyConflict, match="order-42") as conflict:
        ask(asker, **changes)
    assert (conflict.value.key, conflict.value.parts) == ("order-42", (part,))
    assert part in str(conflict.value)
    assert claude.count == 1


def test_a_conflict_is_counted_as_an_error(asker: Asker) -> None:
    ask(asker)
    with aicache.scope(tenant="acme", idempotency_key="order-42") as calls, pytest.raises(aicache.IdempotencyConflict):
        asker.create(messages=OTHER)
    assert calls.last is not None
    assert (calls.last.status, calls.last.reason) == ("error", "idempotency_conflict")


def test_nothing_of_the_request_is_kept_in_plain(asker: Asker) -> None:
    ask(asker, system="A secret of acme's.")
    row = IdempotencyKey.objects.get()
    assert "secret" not in str(row.parts)


def test_another_tenant_may_use_the_same_key(asker: Asker, claude: ClaudeServer) -> None:
    ask(asker)
    told, _ = ask(asker, tenant="globex", messages=OTHER)
    assert told.status == "miss"
    assert claude.count == 2


def test_it_is_not_inherited(asker: Asker) -> None:
    ask(asker)
    with aicache.scope(tenant="acme", idempotency_key="order-42"), aicache.scope(policy="chat") as calls:
        asker.create(messages=OTHER)
    assert calls.last is not None
    assert calls.last.status == "miss"


def test_a_call_that_failed_is_not_pinned(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(400, "invalid_request_error", "no"))
    with pytest.raises(anthropic.BadRequestError):
        ask(asker)
    assert not IdempotencyKey.objects.exists()
    assert ask(asker, messages=OTHER)[0].status == "miss"
    assert ask(asker, messages=OTHER)[0].status == "hit"


def test_retries_of_the_sdk_are_the_same_call(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529, "overloaded_error", "busy", headers={"retry-after-ms": "1"}))
    told, _ = ask(asker, client={"max_retries": 2})
    assert told.status == "miss"
    assert ask(asker)[0].reason == "idempotency_key"
    assert claude.count == 2


def test_it_outlives_redis(asker: Asker, claude: ClaudeServer) -> None:
    _, made = ask(asker, policy="retry")
    flush()
    again, repeated = ask(asker, policy="retry")
    assert (again.reason, repeated.id) == ("idempotency_key", made.id)
    assert claude.count == 1


def test_it_needs_no_redis(asker: Asker, claude: ClaudeServer) -> None:
    with without_redis():
        first, _ = ask(asker)
        again, _ = ask(asker)
        with pytest.raises(aicache.IdempotencyConflict):
            ask(asker, messages=OTHER)
    assert (first.status, again.status, again.reason) == ("degraded", "hit", "idempotency_key")
    assert claude.count == 1


def test_it_lasts_for_a_day(asker: Asker) -> None:
    ask(asker, policy="retry")
    (row,) = IdempotencyKey.objects.all()
    assert row.expires_at - row.created_at == timedelta(hours=24)
    IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    flush()
    assert ask(asker, policy="retry", messages=OTHER)[0].status == "miss"
    assert IdempotencyKey.objects.count() == 1


class TestFreshWins:
    def test_an_invalidated_answer_is_not_repeated(self, asker: Asker, claude: ClaudeServer) -> None:
        ask(asker, tags=["prices"])
        aicache.invalidate("prices", tenant="acme")
        again, _ = ask(asker, tags=["prices"])
        assert (again.status, again.reason) == ("miss", "invalidated:prices")
        assert ask(asker, tags=["prices"])[0].reason == "idempotency_key"
        assert claude.count == 2

    def test_nor_is_one_of_a_source_that_has_changed(self, asker: Asker) -> None:
        article = Article.objects.create(title="Refunds", body="Within 30 days.")
        ask(asker, sources=[article])
        Article.objects.update(body="Within 14 days.")
        again, _ = ask(asker, sources=[Article.objects.get()])
        assert again.status == "miss"

    def test_what_the_cache_gave_dies_with_it(self, asker: Asker) -> None:
        ask(asker, None, tags=["prices"])
        first, _ = ask(asker, tags=["prices"])
        aicache.invalidate("prices", tenant="acme")
        again, _ = ask(asker, tags=["prices"])
        assert (first.status, first.reason, again.status) == ("hit", "", "miss")

    def test_it_dies_before_any_stamp_is_drawn(self, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the cache gave was committed dead already: as its own count says, not the one of the pinning."""
        ask(asker, None, tags=["prices"])
        with without_redis():
            aicache.invalidate("prices", tenant="acme")
        first, _ = ask(asker, tags=["prices"])
        assert first.status == "hit"  # pending: no stamp says so yet
        assert ask(asker, tags=["prices"])[0].reason != "idempotency_key"


def test_refresh_is_asked_for_once(asker: Asker, claude: ClaudeServer) -> None:
    ask(asker, None)
    first, _ = ask(asker, refresh=True)
    again, _ = ask(asker, refresh=True)
    assert (first.status, first.reason, again.reason) == ("miss", "refresh", "idempotency_key")
    assert claude.count == 2


def test_bypass_shares_nothing(asker: Asker, claude: ClaudeServer) -> None:
    assert [ask(asker, bypass=True)[0].status for _ in range(2)] == ["bypass", "bypass"]
    assert claude.count == 2


class TestUncounted:
    """An answer of which nobody can tell later whether it has died: made without copies, or without a database."""

    def test_it_is_not_repeated_for_a_day_but_asked_for_once(
        self, asker: Asker, claude: ClaudeServer, settings: Any
    ) -> None:
        settings.AICACHE = {**settings.AICACHE, "DURABLE": False}
        ask(asker, None)
        first, message = ask(asker)
        assert (first.status, first.reason) == ("miss", "policy")
        flush()
        again, same = ask(asker)
        assert (again.reason, same.id) == ("idempotency_key", message.id)
        assert claude.count == 2

    def test_where_that_fails_it_is_an_answer_all_the_same(
        self, asker: Asker, claude: ClaudeServer, settings: Any
    ) -> None:
        settings.AICACHE = {**settings.AICACHE, "DURABLE": False}
        _, kept = ask(asker, None)
        claude.script(Reply.error(400))
        given, message = ask(asker)
        assert (given.status, message.id) == ("hit", kept.id)
        assert not IdempotencyKey.objects.exists()

    def test_it_dies_with_its_tag(self, asker: Asker, settings: Any) -> None:
        settings.AICACHE = {**settings.AICACHE, "DURABLE": False}
        ask(asker, None, tags=["prices"])
        ask(asker, tags=["prices"])
        aicache.invalidate("prices", tenant="acme")
        assert ask(asker, tags=["prices"])[0].status == "miss"


class TestTogether:
    def test_who_waits_in_the_same_process_hears_the_end(
        self, asker: Asker, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(once, "HEARING_PAUSE", 20.0)
        monkeypatch.setattr(once, "FIRST_PAUSE", 0.001)
        claimed = Claims.claim
        turns: list[Any] = []

        def claim(claims: Claims, pin: Pin, *, writes: bool) -> Any:
            turns.append(claimed(claims, pin, writes=writes))
            return turns[-1]

        def busy() -> int:
            return sum(isinstance(turn, Busy) and turn.here for turn in turns)

        monkeypatch.setattr(Claims, "claim", claim)
        began = time.monotonic()
        with (
            held(claude, (1, 3), waiters=busy),
            aicache.scope(tenant="acme", idempotency_key="order-42"),
        ):
            messages = together(asker, 4)
        assert len({message.id for message in messages}) == 1
        assert time.monotonic() - began < 20
        assert sum(isinstance(turn, Busy) and turn.here for turn in turns) == 3  # each asked once
        assert not get_cache().durable.claims._over  # type: ignore[union-attr]

    def test_who_comes_to_wait_as_it_ends_does_not_wait(self, asker: Asker) -> None:
        """It was under way when it was asked for, and nobody will tell its end again."""
        question = Ask("k" * 64, "l", "acme", Policy("p"))

        def flow() -> Any:
            yield Pause(20.0, Busy("over", here=True), question)
            return Served("miss")

        async def call() -> Any:
            raise AssertionError

        began = time.monotonic()
        if asker.colour == "sync":
            get_cache().serve(flow(), lambda form: None)  # type: ignore[arg-type,return-value]
        else:
            asyncio.run(get_cache().aserve(flow(), call))
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize("reply", [Reply.text("yes"), Reply.tool_use("refund", {})], ids=["text", "tool"])
    def test_many_at_once_are_one_call(self, asker: Asker, claude: ClaudeServer, reply: Reply) -> None:
        claude.answer = lambda _: reply
        with aicache.scope(tenant="acme", idempotency_key="order-42") as calls:
            messages = together(asker, 12)
        assert len({message.id for message in messages}) == 1
        assert Counter(call.status for call in calls)["miss"] == 1
        assert claude.count == 1

    def test_of_many_requests_one_is_answered(self, asker: Asker, claude: ClaudeServer) -> None:
        def act(at: int) -> Any:
            return ask(asker, messages=[{"role": "user", "content": f"Question {at}"}])

        results = in_threads(8, act)
        assert Counter(type(result).__name__ for result in results) == {"tuple": 1, "IdempotencyConflict": 7}
        assert claude.count == 1


@pytest.mark.parametrize("key", ["", "x" * 256, 42, b"order", "\ud800"])
def test_a_key_that_cannot_be_one_is_named(key: Any) -> None:
    with pytest.raises(ArgumentError, match="idempotency_key"):
        aicache.scope(idempotency_key=key)


def test_the_callers_transaction_is_left_alone(asker: Asker) -> None:
    with CaptureQueriesContext(connection) as queries:
        ask(asker)
        ask(asker)
    assert not queries.captured_queries


class TestInATransaction:
    """On SQLite a claim cannot be written there."""

    @pytest.fixture(autouse=True)
    def _is_sync(self, asker: Asker) -> None:
        if asker.colour == "async":
            pytest.skip("Django's transactions are not for tasks")

    def test_calls_one_after_the_other_are_one(self, asker: Asker, claude: ClaudeServer) -> None:
        with transaction.atomic():
            first = ask(asker, refresh=True)
            again = [ask(asker, refresh=True) for _ in range(2)]
        assert [call.reason for call, _ in again] == ["idempotency_key"] * 2
        flush()
        later, message = ask(asker)
        assert {message.id, *(other.id for _, other in again)} == {first[1].id}
        assert (later.reason, claude.count) == ("idempotency_key", 1)

    @pytest.mark.parametrize("other", [False, True])
    def test_a_key_whose_holder_was_killed_is_pinned(self, other: bool, asker: Asker) -> None:
        ask(asker, **({"messages": OTHER} if other else {}))
        past = timezone.now() - timedelta(seconds=1)
        IdempotencyKey.objects.update(answer="", payload=None, answered_at=None, holder="dead", held_until=past)
        with transaction.atomic():
            ask(asker, refresh=True)
        flush()
        assert ask(asker)[0].reason == "idempotency_key"


def test_any_other_call_may_have_a_key_too(aicache_isolated: None, settings: Any) -> None:
    made: list[int] = []

    def embed() -> list[float]:
        made.append(1)
        return [0.5]

    nothing = {**settings.AICACHE, "POLICIES": {"nothing": {"ttl": 0}}}
    with override_settings(AICACHE=nothing):
        for _ in range(3):
            with aicache.scope(tenant="acme", policy="nothing", idempotency_key="embed-1"):
                assert aicache.remember({"embed": "text"}, embed) == [0.5]
    with aicache.scope(tenant="acme", idempotency_key="embed-1"), pytest.raises(aicache.IdempotencyConflict) as told:
        aicache.remember({"embed": "another"}, list)
    assert told.value.parts == ("body.request",)
    assert made == [1]


class TestTrouble:
    def test_a_count_that_fails_leaves_the_key_free(self, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(tags: Any) -> Any:
            raise OperationalError("no route to host")

        with monkeypatch.context() as patched:
            patched.setattr("aicache.durable.claims.generations", away)
            first, _ = ask(asker)
        assert first.status == "miss"
        assert not IdempotencyKey.objects.exists()
        assert ask(asker, messages=OTHER)[0].status == "miss"

    def test_what_is_interrupted_between_two_statements_is_made_whole(
        self, asker: Asker, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On SQLite each is a transaction, and any of them may be disturbed."""
        interrupted: list[str] = []

        def write(using: str, act: Callable[[], Any], *seconds: float) -> Any:
            done: list[str] = []

            def execute(execute: Any, sql: str, *rest: Any) -> Any:
                if sql.startswith("SELECT") or not done:
                    done.extend([] if sql.startswith("SELECT") else [sql])
                    return execute(sql, *rest)
                interrupted.append(sql)
                raise OperationalError("database is locked")

            with connections[using].execute_wrapper(execute):
                try:
                    return act()
                except OperationalError:
                    pass
            return sqlite.write(using, act, *seconds)

        monkeypatch.setattr("aicache.durable.claims.write", write)
        claude.script(Reply.error(400))
        with pytest.raises(anthropic.BadRequestError):
            ask(asker)
        assert not IdempotencyKey.objects.exists()
        assert interrupted
        assert ask(asker)[0].status == "miss"
        assert ask(asker)[0].reason == "idempotency_key"

    def test_a_claim_that_comes_late_keeps_nobody_waiting(
        self, asker: Asker, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on, done = threading.Event(), threading.Event()
        claimed = Claims.claim

        def slow(*given: Any, **named: Any) -> Any:
            assert go_on.wait(20)
            found = claimed(*given, **named)
            done.set()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(Claims, "claim", slow)
            patched.setattr("aicache.cache.BUDGET", 0.05)
            first, _ = ask(asker)
            assert not IdempotencyKey.objects.exists()
            go_on.set()
            assert done.wait(20)
        assert first.status == "miss"
        until(lambda: not IdempotencyKey.objects.exists(), "it is held")
        assert ask(asker, messages=OTHER)[0].status == "miss"

    @pytest.mark.usefixtures("aicache_isolated")
    def test_nor_does_one_whose_caller_was_interrupted(self, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Such as by a soft time limit."""
        if asker.colour == "async":
            pytest.skip("a task is cancelled")

        def interrupted(work: Work, budget: float) -> None:
            wait([work.future], budget)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Work, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ask(asker)
        until(lambda: not IdempotencyKey.objects.exists(), "it is held")
        assert ask(asker)[0].status == "miss"

    def test_nor_does_one_that_failed_when_it_had_been_written(
        self, asker: Asker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write(using: str, act: Callable[[], Any], *seconds: float) -> Any:
            sqlite.write(using, act, *seconds)
            raise OperationalError("terminating connection")

        with monkeypatch.context() as patched:
            patched.setattr("aicache.durable.claims.write", write)
            assert ask(asker)[0].status == "miss"
        until(lambda: not IdempotencyKey.objects.exists(), "it is held")

    @pytest.mark.usefixtures("aicache_isolated")
    @pytest.mark.parametrize("fails", [False, True])
    def test_who_is_cancelled_as_the_answer_is_pinned_has_it_pinned(
        self, fails: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on, asked = threading.Event(), threading.Event()
        settled = Claims.settle

        def slow(*given: Any) -> None:
            asked.set()
            assert go_on.wait(20)
            if fails:
                raise OperationalError("database is locked")
            settled(*given)

        async def call() -> None:
            with aicache.scope(tenant="acme", idempotency_key="order-42"):
                await aicache.remember({"question": 1}, paid)

        async def paid() -> str:
            return "paid"

        async def main() -> None:
            calling = asyncio.create_task(call())
            await auntil(asked.is_set, "it does not pin")
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            go_on.set()

        with monkeypatch.context() as patched:
            patched.setattr(Claims, "settle", slow)
            asyncio.run(main())
            until(lambda: IdempotencyKey.objects.exclude(answer="").filter(holder="").exists(), "it is not pinned")

    @pytest.mark.usefixtures("aicache_isolated")
    def test_a_task_that_is_collected_as_garbage_takes_no_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be collected by whoever holds that lock."""
        go_on, asked = threading.Event(), threading.Event()
        claimed = Claims.claim
        abandoned: list[Work] = []
        done = threading.Event()

        def slow(*given: Any, **named: Any) -> Any:
            asked.set()
            assert go_on.wait(20)
            try:
                return claimed(*given, **named)
            finally:
                done.set()

        async def call() -> None:
            with aicache.scope(tenant="acme", idempotency_key="order-42"):
                await aicache.remember({"question": 1}, never)

        async def never() -> str:
            raise AssertionError("its loop is closed")

        monkeypatch.setattr(Claims, "claim", slow)
        monkeypatch.setattr(Work, "abandon", abandoned.append)
        loop = asyncio.new_event_loop()
        task = loop.create_task(call())
        loop.run_until_complete(auntil(asked.is_set, "it does not ask"))
        loop.run_until_complete(loop.shutdown_asyncgens())  # a loop's line to Redis ends so
        loop.close()
        ended = weakref.ref(task)
        del task
        go_on.set()
        assert done.wait(20)
        until(lambda: (gc.collect(), ended())[1] is None, "it is not collected")
        assert abandoned == []

    def test_nor_does_one_whose_caller_was_cancelled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on, asked = threading.Event(), threading.Event()
        turns: list[Any] = []
        claimed = Claims.claim

        def slow(*given: Any, **named: Any) -> Any:
            asked.set()
            assert go_on.wait(20)
            turns.append(claimed(*given, **named))
            return turns[-1]

        async def call() -> None:
            with aicache.scope(tenant="acme", idempotency_key="order-42"):
                await aicache.remember({"question": 1}, never)

        async def never() -> str:
            raise AssertionError("it was cancelled")

        async def main() -> None:
            calling = asyncio.create_task(call())
            await auntil(asked.is_set, "it does not ask")
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            go_on.set()
            await auntil(lambda: turns, "it is not claimed")

        monkeypatch.setattr(Claims, "claim", slow)
        asyncio.run(main())
        until(lambda: not IdempotencyKey.objects.exists(), "it is held")

    def test_a_database_that_is_away_is_not_asked_for_copies_too(
        self, asker: Asker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any, **__: Any) -> Any:
            raise OperationalError("no route to host")

        recalled: list[Any] = []
        monkeypatch.setattr(Claims, "claim", away)
        monkeypatch.setattr(Copies, "recall", lambda *given, **_: recalled.append(given))
        assert ask(asker)[0].status == "miss"
        assert recalled == []

    def test_who_was_killed_before_an_answer_binds_nobody(self, asker: Asker) -> None:
        ask(asker)
        past = timezone.now() - timedelta(seconds=1)
        IdempotencyKey.objects.update(answer="", payload=None, answered_at=None, holder="somebody", held_until=past)
        assert ask(asker, messages=OTHER)[0].status == "miss"
        with pytest.raises(aicache.IdempotencyConflict):
            ask(asker)

    def test_a_claim_that_was_settled_meanwhile_is_not_taken_over(self, asker: Asker) -> None:
        ask(asker)
        stale = IdempotencyKey.objects.get()
        durable = get_cache().durable
        assert durable is not None
        IdempotencyKey.objects.update(answered_at=timezone.now() + timedelta(seconds=1))
        pin = Pin(stale.name, Ask(stale.answer, stale.question, stale.owner, Policy("p")), Question("", "", {}, {}))
        assert durable.claims._take_over(pin, stale, "token") is False


def test_an_answer_of_the_caches_keeps_its_age(asker: Asker) -> None:
    ask(asker, None)
    first, _ = ask(asker)
    again, _ = ask(asker)
    assert again.age >= first.age > 0
