"""Who listens hears of each call once, however it was made and however it ended; who does not pays nothing for it."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any
from unittest import mock

import anthropic
import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

import aicache
from aicache.claude.retry import is_tried_again
from aicache.errors import IdempotencyConflict
from aicache.signals import answer_stored, cache_hit, cache_missed, call_ended
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.listener import Listener, listening
from tests.claude.streaming import Caller, gated
from tests.claude.together import PATIENCE, auntil, held, renewing, together, until
from tests.freshness.library.models import Article

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

MARK = "a-secret-of-the-customers"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def streamed(asker: Asker, **changes: Any) -> None:
    asked = {**QUESTION, **changes, "stream": True}

    async def aask(client: Any) -> None:
        async for _ in await client.messages.create(**asked):
            pass

    asker.run(aask if asker.colour == "async" else lambda client: list(client.messages.create(**asked)))


class TestACall:
    def test_that_missed_is_told_with_whose_it_was_and_what_was_kept(self, asker: Asker, listener: Listener) -> None:
        with aicache.scope(tenant="acme", policy="chat", tags=["faq"]) as calls:
            message = asker.create()

        info = calls.last
        assert info is not None
        assert aicache.info(message) == info
        whose = {"info": info, "tenant": "acme", "model": "claude-sonnet-5", "policy": "chat"}
        assert listener.names == ["answer_stored", "cache_missed", "call_ended"]
        assert listener.of(cache_missed) == listener.of(call_ended) == [whose]
        (stored,) = listener.of(answer_stored)
        assert {name: stored.pop(name) for name in whose} == whose
        cost = stored.pop("cost")
        assert isinstance(cost, Decimal)
        assert 0 < cost < 1
        assert stored == {"key": info.key, "tags": frozenset({"faq"}), "expires_in": info.expires_in}

    def test_that_was_a_hit_is_told_with_what_it_saved(self, asker: Asker, listener: Listener) -> None:
        with aicache.scope(tenant="acme"):
            asker.create()
            listener.told.clear()
            listener._told["async"].clear()
            asker.create()

        assert listener.names == ["cache_hit", "call_ended"]
        (told,) = listener.of(cache_hit)
        assert told["info"].status == "hit"
        assert told["info"].saved_usd > 0

    @pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
    def test_is_told_whatever_its_caller_gets(self, asker: Asker, listener: Listener, way: str) -> None:
        def ask(client: Any) -> Any:
            made = getattr(client.messages, way).create(**QUESTION)
            if way == "with_streaming_response":
                with made as response:
                    return response.parse()
            return made.parse()

        async def aask(client: Any) -> Any:
            made = getattr(client.messages, way).create(**QUESTION)
            if way == "with_streaming_response":
                async with made as response:
                    return await response.parse()
            return await (await made).parse()

        with aicache.scope(tenant="acme"):
            for _ in range(2):
                asker.run(ask if asker.colour == "sync" else aask)

        assert listener.statuses == ["miss", "hit"]

    def test_that_waited_is_told_as_a_hit(self, asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
        with aicache.scope(tenant="acme"), held(claude, (1, 4)):
            together(asker, 5)

        assert Counter(listener.statuses) == {"miss": 1, "coalesced": 4}
        assert [told["info"].status for told in listener.of(cache_hit)] == ["coalesced"] * 4
        assert len(listener.of(answer_stored)) == 1

    def test_that_is_not_kept_is_told_as_missed_alone(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.answer = lambda _: Reply.text("half an ans", stop_reason="max_tokens")
        with aicache.scope(tenant="acme"):
            asker.create()

        assert listener.names == ["cache_missed", "call_ended"]

    @pytest.mark.parametrize("scope", [{"tenant": "acme", "bypass": True}, {}], ids=["bypass", "unscoped"])
    def test_that_passed_the_cache_by_is_neither_hit_nor_missed(
        self, asker: Asker, listener: Listener, scope: dict[str, Any]
    ) -> None:
        with aicache.scope(**scope, policy="chat"):
            asker.create()

        assert listener.names == ["call_ended"]
        (told,) = listener.of(call_ended)
        assert told["tenant"] == scope.get("tenant")
        assert (told["model"], told["policy"]) == ("claude-sonnet-5", "chat")

    def test_with_the_cache_out_of_reach_is_told_too(self, asker: Asker, listener: Listener) -> None:
        with override_settings(CACHES=DOWN), aicache.scope(tenant="acme"):
            asker.create()

        assert listener.names == ["call_ended"]
        assert listener.statuses == ["degraded"]

    def test_whose_tenant_is_everybody_or_goes_without_saying(self, asker: Asker, listener: Listener) -> None:
        with aicache.scope(tenant=aicache.GLOBAL):
            asker.create()
        with override_settings(AICACHE={"SINGLE_TENANT": True, "NAMESPACE": uuid.uuid4().hex}):
            asker.create()

        assert [told["tenant"] for told in listener.of(call_ended)] == [aicache.GLOBAL, ""]
        assert [told["tenant"] for told in listener.of(answer_stored)] == [aicache.GLOBAL, ""]


DOWN = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}


class TestAFailingCall:
    def test_is_told_once(self, asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
        claude.script(Reply.error(400))
        with aicache.scope(tenant="acme"), pytest.raises(anthropic.BadRequestError):
            asker.create()

        assert listener.names == ["call_ended"]
        assert listener.statuses == ["error"]

    def test_that_is_tried_again_is_told_with_its_final_status(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.error(529, retry_after=0.01), Reply.drop(), Reply.error(408, retry_after=0.01))
        with aicache.scope(tenant="acme") as calls:
            asker.create(client={"max_retries": 3})

        assert claude.count == 4
        assert listener.statuses == ["miss"]
        assert listener.of(call_ended)[0]["info"] == calls.last

    def test_that_is_tried_in_vain_is_told_with_its_last_attempt(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.answer = lambda _: Reply.error(529, retry_after=0.01)
        with aicache.scope(tenant="acme"), pytest.raises(anthropic.APIStatusError):
            asker.create(client={"max_retries": 2})

        assert claude.count == 3
        assert listener.names == ["call_ended"]
        assert listener.statuses == ["error"]

    def test_that_upstream_says_is_not_to_be_tried_again_is_told_at_once(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.error(529, headers={"x-should-retry": "false"}))
        with aicache.scope(tenant="acme"), pytest.raises(anthropic.APIStatusError):
            asker.create(client={"max_retries": 2})

        assert claude.count == 1
        assert listener.statuses == ["error"]

    def test_that_upstream_says_is_to_be_tried_again_is_told_when_it_has_been(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.error(400, headers={"x-should-retry": "true", "retry-after": "0.01"}))
        with aicache.scope(tenant="acme"):
            asker.create(client={"max_retries": 2})

        assert listener.statuses == ["miss"]

    def test_that_others_waited_for_is_told_for_each_of_them(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        error = Reply.error(529, retry_after=0.2)
        with aicache.scope(tenant="acme"), held(claude, (1, 4), replies=[error]):
            together(asker, 5, client={"max_retries": 2})

        assert len(listener.statuses) == 5
        assert "error" not in listener.statuses

    def test_that_bypasses_and_is_tried_again_is_told_once(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.error(529, retry_after=0.01), Reply.drop())
        with aicache.scope(tenant="acme", bypass=True):
            asker.create(client={"max_retries": 2})

        assert listener.statuses == ["bypass"]

    def test_that_the_cache_itself_refuses_is_told(self, asker: Asker, listener: Listener) -> None:
        with aicache.scope(tenant="acme", idempotency_key="one"):
            asker.create()
            with pytest.raises(IdempotencyConflict):
                asker.create(max_tokens=7)

        assert listener.statuses == ["miss", "error"]
        assert listener.of(call_ended)[1]["info"].reason == "idempotency_conflict"

    def test_that_another_middleware_fails_with_what_the_sdk_tries_again(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        failures = [anthropic.APIConnectionError(request=mock.Mock())]

        class Failing(anthropic.Middleware):
            def handle(self, request: Any, call_next: Any) -> Any:
                if failures:
                    raise failures.pop()
                return call_next(request)

            async def handle_async(self, request: Any, call_next: Any) -> Any:
                if failures:
                    raise failures.pop()
                return await call_next(request)

        with aicache.scope(tenant="acme"):
            asker.run(lambda client: innermost(client, Failing()).messages.create(**QUESTION), max_retries=1)

        assert listener.statuses == ["miss"]

    def test_that_is_cancelled_is_told(self, claude: ClaudeServer, aicache_isolated: None, listener: Listener) -> None:
        async def main() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                task = asyncio.create_task(aicache.wrap(plain).messages.create(**QUESTION))
                await auntil(lambda: claude.in_flight, "it does not call")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await auntil(lambda: listener._told["async"], "nobody is told")

        with aicache.scope(tenant="acme"), held(claude, (1, 1), waiters=lambda: len(listener.statuses)):
            asyncio.run(main())

        assert listener.statuses == ["error"]
        assert listener.of(call_ended)[0]["info"].reason == "raised:CancelledError"


def innermost(client: Any, middleware: anthropic.Middleware) -> Any:
    """A wrapped client with another middleware inside of the cache's."""
    client._middleware = (*client._middleware, middleware)
    client._middleware_chain = client._build_middleware_chain()
    return client


class TestAStream:
    def test_is_told_when_it_has_ended(self, asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
        with aicache.scope(tenant="acme"), gated(claude) as gate:
            caller = Caller(asker)
            gate.open_to(3)
            caller.asks_for(2)
            until(lambda: len(caller.events) == 2, "nothing comes")
            assert listener.names == []
            gate.open()
            caller.rest()

        assert listener.names == ["answer_stored", "cache_missed", "call_ended"]
        assert listener.of(call_ended)[0]["info"] == caller.info

    def test_that_is_replayed_is_told_as_a_hit(self, asker: Asker, listener: Listener) -> None:
        with aicache.scope(tenant="acme"):
            streamed(asker)
            streamed(asker)

        assert listener.statuses == ["miss", "hit"]

    def test_that_is_joined_is_told_for_both(self, asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
        with aicache.scope(tenant="acme"), gated(claude) as gate:
            leader = Caller(asker)
            gate.open_to(3)
            leader.asks_for(2)
            until(lambda: len(leader.events) == 2, "nothing comes")
            follower = Caller(asker)
            follower.asks_for(2)
            until(lambda: len(follower.events) == 2, "nothing comes")
            gate.open()
            leader.rest()
            follower.rest()

        assert Counter(listener.statuses) == {"miss": 1, "coalesced": 1}
        assert len(listener.of(cache_hit)) == len(listener.of(answer_stored)) == 1

    def test_that_is_left_is_told_as_left(self, asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
        with aicache.scope(tenant="acme"), gated(claude) as gate:
            caller = Caller(asker)
            gate.open_to(3)
            caller.asks_for(1).leaves()
            until(lambda: listener.statuses, "nobody is told")

        (told,) = listener.of(call_ended)
        assert (told["info"].status, told["info"].reason) == ("miss", "left")

    def test_that_breaks_off_is_told_though_the_sdk_would_try_again(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.text("half of it", drop_after=600))
        with aicache.scope(tenant="acme"), pytest.raises(Exception, match=r"closed|incomplete"):
            asker_with_retries(asker)

        assert listener.statuses == ["error"]

    def test_that_is_refused_and_tried_again_is_told_once(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        claude.script(Reply.error(529, retry_after=0.01))
        with aicache.scope(tenant="acme"):
            asker_with_retries(asker)

        assert listener.statuses == ["miss"]

    def test_that_is_dropped_is_told(self, claude: ClaudeServer, aicache_isolated: None, listener: Listener) -> None:
        with aicache.scope(tenant="acme"), gated(claude) as gate:
            gate.open_to(3)
            with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
                stream = aicache.wrap(plain).messages.create(**QUESTION, stream=True)
                next(iter(stream))
                del stream
                gc.collect()
                until(lambda: listener._told["async"], "nobody is told")

        assert listener.of(call_ended)[0]["info"].reason == "left"

    def test_that_is_dropped_in_a_task_is_told(
        self, claude: ClaudeServer, aicache_isolated: None, listener: Listener
    ) -> None:
        async def main() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                stream = await aicache.wrap(plain).messages.create(**QUESTION, stream=True)
                async for _ in stream:
                    break
                del stream
                gc.collect()
                await auntil(lambda: listener._told["async"], "nobody is told")

        with aicache.scope(tenant="acme"), gated(claude) as gate:
            gate.open_to(3)
            asyncio.run(main())

        assert listener.of(call_ended)[0]["info"].reason == "left"

    def test_that_a_generator_was_to_read_is_told_when_that_is_closed(
        self, claude: ClaudeServer, aicache_isolated: None, listener: Listener
    ) -> None:
        def words(client: Any) -> Iterator[str]:
            with client.messages.stream(**QUESTION) as stream:
                yield from stream.text_stream

        with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            with aicache.scope(tenant="acme"), gated(claude) as gate:
                gate.open_to(4)
                generator: Any = words(aicache.wrap(plain))
                next(generator)
                generator.close()

        assert listener.of(call_ended)[0]["info"].reason == "left"

    def test_and_a_call_on_a_loop_that_is_made_for_them_are_told_before_it_ends(
        self, claude: ClaudeServer, aicache_isolated: None, listener: Listener
    ) -> None:
        async def view() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)
                await client.messages.create(**QUESTION)
                async for _ in await client.messages.create(**{**QUESTION, "max_tokens": 7}, stream=True):
                    pass

        with aicache.scope(tenant="acme"):
            async_to_sync(view)()

        assert listener.statuses == ["miss", "miss"]


def asker_with_retries(asker: Asker) -> None:
    asked = {**QUESTION, "stream": True}

    async def aask(client: Any) -> None:
        async for _ in await client.messages.create(**asked):
            pass

    ask: Any = aask if asker.colour == "async" else lambda client: list(client.messages.create(**asked))
    asker.run(ask, max_retries=2)


class TestARenewalInTheBackground:
    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
    def test_is_told_as_an_answer_that_was_stored(self, claude: ClaudeServer, listener: Listener, stream: bool) -> None:
        def ask() -> None:
            answer = client.messages.create(**QUESTION, stream=stream)
            if stream:
                list(answer)

        policies = {"stale": {"ttl": 0.05, "stale_while_revalidate": 60}}
        with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
            with aicache.scope(tenant="acme", policy="stale", tags=["faq"]):
                with Asker("sync", claude.url).client() as client:
                    ask()
                    time.sleep(0.06)
                    ask()
                    until(lambda: len(listener._told["async"]) == 6, "nobody is told")

        assert listener.statuses == ["miss", "stale"]
        first, renewed = listener.of(answer_stored)
        assert (renewed["info"].status, renewed["info"].reason) == ("miss", "expired")
        assert {name for name in first if first[name] != renewed[name]} <= {"info", "expires_in", "cost"}
        assert renewed["info"].stored
        assert renewed["tags"] == frozenset({"faq"})

    def test_in_a_task_is_told_too(self, claude: ClaudeServer, listener: Listener) -> None:
        policies = {"stale": {"ttl": 0.05, "stale_while_revalidate": 60}}

        async def main() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)
                await client.messages.create(**QUESTION)
                await asyncio.sleep(0.06)
                await client.messages.create(**QUESTION)
                await auntil(lambda: len(listener._told["async"]) == 6, "nobody is told")

        with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
            with aicache.scope(tenant=aicache.GLOBAL, policy="stale"):
                asyncio.run(main())

        assert [told["tenant"] for told in listener.of(answer_stored)] == [aicache.GLOBAL] * 2

    def test_that_fails_is_told_to_nobody(self, claude: ClaudeServer, listener: Listener) -> None:
        policies = {"stale": {"ttl": 0.05, "stale_while_revalidate": 60}}
        with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
            with aicache.scope(tenant="acme", policy="stale"):
                with Asker("sync", claude.url).client() as client:
                    client.messages.create(**QUESTION)
                    time.sleep(0.06)
                    claude.script(Reply.error(400))
                    client.messages.create(**QUESTION)
                    until(lambda: claude.count == 2 and not claude.in_flight, "it is not renewed")
                    until(lambda: not renewing(), "it goes on")

        assert listener.statuses == ["miss", "stale"]
        assert len(listener.of(answer_stored)) == 1


class TestAReceiver:
    @pytest.mark.parametrize("event", [call_ended, cache_missed, answer_stored], ids=lambda event: event.name)
    def test_that_raises_is_not_the_callers_business(
        self, asker: Asker, event: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(**_: Any) -> None:
            raise LookupError

        async def afail(**_: Any) -> None:
            raise LookupError

        event.connect(fail)
        event.connect(afail)
        try:
            with aicache.scope(tenant="acme") as calls:
                asker.create()
                streamed(asker, max_tokens=7)
        finally:
            event.disconnect(fail)
            event.disconnect(afail)
            event._failing.clear()

        assert [call.status for call in calls] == ["miss", "miss"]
        assert [record.name for record in caplog.records if record.levelname == "ERROR"] == ["aicache.signals"] * 2

    @pytest.mark.parametrize("leaves", [False, True], ids=["cancelled", "left and cancelled"])
    def test_that_takes_for_ever_does_not_keep_who_is_cancelled(
        self, claude: ClaudeServer, aicache_isolated: None, leaves: bool
    ) -> None:
        begun = asyncio.Event()
        ends = asyncio.Event()

        async def wait(**_: Any) -> None:
            begun.set()
            await ends.wait()

        async def cancelled(call: Any) -> None:
            task = asyncio.ensure_future(call)
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            begun.clear()

        async def read(client: Any, **changes: Any) -> None:
            async with await client.messages.create(**{**QUESTION, **changes}, stream=True) as stream:
                async for _ in stream:
                    if leaves:
                        break

        async def main() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)
                await cancelled(client.messages.create(**QUESTION))
                await cancelled(read(client, max_tokens=7))
                with gated(claude) as gate:  # before anybody is told
                    gate.open_to(3)
                    task = asyncio.create_task(read(client, max_tokens=8))
                    await auntil(lambda: begun.is_set() or claude.in_flight, "it does not call")
                    await asyncio.sleep(0.1)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task

        call_ended.connect(wait)
        try:
            with aicache.scope(tenant="acme"):
                asyncio.run(asyncio.wait_for(main(), PATIENCE))
        finally:
            call_ended.disconnect(wait)

    def test_that_saves_something_is_an_async_one_on_a_site_with_both(self, asker: Asker) -> None:
        async def save(info: Any, **_: Any) -> None:
            await Article.objects.acreate(title=info.status)

        async def ask() -> None:
            async with asker.client() as client:
                for _ in range(2):
                    await client.messages.create(**QUESTION)

        call_ended.connect(save)
        try:
            with aicache.scope(tenant="acme"):
                if asker.colour == "async":
                    async_to_sync(ask)()
                else:
                    asker.create()
                    asker.create()
        finally:
            call_ended.disconnect(save)

        assert sorted(article.title for article in Article.objects.all()) == ["hit", "miss"]

    def test_that_saves_something_is_in_the_callers_transaction(
        self, claude: ClaudeServer, aicache_isolated: None
    ) -> None:
        async def save(info: Any, **_: Any) -> None:
            await Article.objects.acreate(title=info.status)

        call_ended.connect(save)
        try:
            with suppress(LookupError), transaction.atomic():
                Asker("sync", claude.url).create()
                assert Article.objects.count() == 1
                raise LookupError
        finally:
            call_ended.disconnect(save)

        assert not Article.objects.exists()

    def test_that_uses_the_database_on_a_loop_is_refused_and_nobody_else(
        self, claude: ClaudeServer, aicache_isolated: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        def save(info: Any, **_: Any) -> None:
            Article.objects.create(title=info.status)

        call_ended.connect(save)
        try:
            with aicache.scope(tenant="acme") as calls:
                Asker("async", claude.url).create()
        finally:
            call_ended.disconnect(save)
            call_ended._failing.clear()

        assert [call.status for call in calls] == ["miss"]
        assert "SynchronousOnlyOperation" in caplog.text

    def test_that_disconnects_itself_is_told_no_more(self, asker: Asker) -> None:
        told = []

        def hear(**_: Any) -> None:
            told.append(1)
            call_ended.disconnect(hear)

        call_ended.connect(hear)
        with aicache.scope(tenant="acme"):
            asker.create()
            asker.create()

        assert told == [1]

    def test_that_asks_itself_is_heard_by_others_and_not_in_the_callers_scope(
        self, asker: Asker, claude: ClaudeServer, listener: Listener
    ) -> None:
        inner = Asker("sync", claude.url)

        def ask(**_: Any) -> None:
            with aicache.scope(tenant="own"):
                inner.create(max_tokens=7)

        call_ended.connect(ask)
        try:
            with aicache.scope(tenant="acme", idempotency_key="one", policy="chat") as calls:
                asker.create()
        finally:
            call_ended.disconnect(ask)

        assert len(calls) == 1
        assert claude.count == 2
        assert sorted(told["tenant"] for told in listener.of(call_ended)) == ["acme", "own"]

    def test_that_awaits_a_call_of_its_own_does_so_on_the_callers_loop(
        self, claude: ClaudeServer, aicache_isolated: None
    ) -> None:
        answers = []

        async def main() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
                client = aicache.wrap(plain)

                async def ask(**_: Any) -> None:
                    with aicache.scope(tenant="own"):
                        answers.append(await client.messages.create(**QUESTION))

                cache_missed.connect(ask)
                with aicache.scope(tenant="acme"):
                    await client.messages.create(**QUESTION)

        asyncio.run(main())
        assert len(answers) == 1


class TestWhereNobodyListens:
    def test_nothing_is_made_for_them(self, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aicache.outcome._telling", None)
        monkeypatch.setattr("aicache.outcome.is_tried_again", None, raising=False)
        with aicache.scope(tenant="acme") as calls:
            asker.create()
            asker.create()
            streamed(asker, max_tokens=7)

        assert [call.status for call in calls] == ["miss", "hit", "miss"]

    def test_who_listens_to_hits_alone_hears_of_nothing_else(self, asker: Asker) -> None:
        told = []

        def hear(**given: Any) -> None:
            told.append(given["info"].status)

        cache_hit.connect(hear)
        try:
            with aicache.scope(tenant="acme"):
                asker.create()
                asker.create()
        finally:
            cache_hit.disconnect(hear)

        assert told == ["hit"]


def test_nothing_of_what_was_said_is_told(asker: Asker, claude: ClaudeServer, listener: Listener) -> None:
    claude.answer = lambda _: Reply.text(f"about {MARK}")
    asked = {"messages": [{"role": "user", "content": MARK}], "system": MARK, "metadata": {"user_id": MARK}}
    with aicache.scope(tenant="acme"):
        asker.create(**asked)
        streamed(asker, **asked)
        claude.script(Reply.error(400, message=MARK))
        with pytest.raises(anthropic.BadRequestError):
            asker.create(**asked, max_tokens=7)

    assert listener.statuses == ["miss", "hit", "error"]
    assert MARK not in repr(listener.told)


class TestWhatIsTriedAgain:
    """As the SDK decides it: these are its own rules."""

    def test_is_as_the_sdk_has_it(self, claude: ClaudeServer) -> None:
        ends: list[bool] = []

        class Looking(anthropic.Middleware):
            def handle(self, request: Any, call_next: Any) -> Any:
                response = call_next(request)
                if not response.http_response.is_success:
                    served = mock.Mock(failure=None, own=mock.Mock(raw=response))
                    ends.append(is_tried_again(client, request, served))
                return response

        with anthropic.Anthropic(base_url=claude.url, api_key="k", middleware=[Looking()], max_retries=1) as client:
            for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529):
                for headers in ({}, {"x-should-retry": "true"}, {"x-should-retry": "false"}):
                    claude.reset()
                    ends.clear()
                    claude.script(Reply.error(status, retry_after=0.001, headers=headers))
                    with suppress(anthropic.APIStatusError):
                        client.messages.create(**QUESTION)
                    assert ends == [claude.count == 2], (status, headers)

    def test_nothing_where_no_attempt_is_left(self, claude: ClaudeServer) -> None:
        request = mock.Mock(retries_taken=2)
        request.options.get_max_retries = lambda most: most
        client = mock.Mock(max_retries=2)
        assert not is_tried_again(client, request, anthropic.APITimeoutError(request=mock.Mock()))
        request.retries_taken = 1
        assert is_tried_again(client, request, anthropic.APITimeoutError(request=mock.Mock()))
        assert not is_tried_again(client, request, ValueError())
        assert not is_tried_again(client, request, asyncio.CancelledError())
        wrapped = ValueError()
        wrapped.__cause__ = anthropic.APITimeoutError(request=mock.Mock())
        assert is_tried_again(client, request, wrapped)
