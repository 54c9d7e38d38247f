"""Each call is counted as what it was, and each request that was sent."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import anthropic
import pytest
from django.test import override_settings

import aicache
from aicache.conf import get_settings, site
from aicache.core.tags import EVERYBODY
from aicache.ledger import stats
from aicache.ledger.counts import Counts
from aicache.ledger.figures import STATUSES
from aicache.ledger.flusher import Flusher
from aicache.tenants import tenant_digest
from aicache.testing import ClaudeServer, Reply
from tests.answers import without_redis
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import held, together, until

NO_PAUSE = {"retry-after-ms": "1"}


@pytest.fixture(autouse=True)
def _each_request_is_counted(claude: ClaudeServer, flusher: Flusher) -> Iterator[None]:
    yield
    assert sum(figures["upstream_calls"] for figures in stats.unwritten().tenants.values()) >= claude.count


def told(tenant: str = "acme") -> dict[str, int]:
    """How the tenant's calls ended, and what was sent for them, where that is not 0."""
    figures = stats.unwritten().tenants.get(tenant, stats.NOTHING)
    return {name: figures[name] for name in (*STATUSES, "upstream_calls", "unpriced") if figures[name]}


def everybody_told() -> dict[str, dict[str, int]]:
    return {tenant: told(tenant) for tenant in stats.unwritten().tenants}


def ask(asker: Asker, *, scope: dict[str, Any] | None = None, **changes: Any) -> Any:
    with aicache.scope(**{"tenant": "acme", **(scope or {})}):
        return asker.create(**changes)


class TestACall:
    def test_that_upstream_answers_is_a_miss_and_the_next_a_hit(self, asker: Asker) -> None:
        for _ in range(3):
            ask(asker)
        assert told() == {"miss": 1, "hit": 2, "upstream_calls": 1}

    def test_that_passes_the_cache_by_is_its_tenants(self, asker: Asker) -> None:
        ask(asker, scope={"bypass": True})
        asker.create()
        with override_settings(AICACHE={"ENABLED": False}):
            ask(asker)
        assert everybody_told() == {
            "acme": {"bypass": 2, "upstream_calls": 2},
            "(nobody)": {"unscoped": 1, "upstream_calls": 1},
        }

    def test_that_streams_is_counted_when_it_has_been_read(self, asker: Asker, claude: ClaudeServer) -> None:
        with aicache.scope(tenant="acme"):
            if asker.colour == "sync":
                asker.run(lambda client: [*client.messages.create(**QUESTION, stream=True)])
            else:

                async def streaming(client: Any) -> None:
                    async for _ in await client.messages.create(**QUESTION, stream=True):
                        pass

                asker.run(streaming)
        assert told() == {"miss": 1, "upstream_calls": 1}

    def test_that_waits_for_anothers_is_coalesced(self, asker: Asker, claude: ClaudeServer) -> None:
        with aicache.scope(tenant="acme"), held(claude, (1, 9)):
            together(asker, 10)
        assert told() == {"miss": 1, "coalesced": 9, "upstream_calls": 1}

    def test_that_is_retried_is_counted_once_and_each_attempt_as_a_request(
        self, asker: Asker, claude: ClaudeServer
    ) -> None:
        claude.script(Reply.error(529, headers=NO_PAUSE), Reply.error(500, headers=NO_PAUSE))
        ask(asker, client={"max_retries": 2})
        assert told() == {"miss": 1, "upstream_calls": 3}

    def test_that_fails_for_good_is_one_error(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda _: Reply.error(529, headers=NO_PAUSE)
        with pytest.raises(anthropic.APIStatusError):
            ask(asker, client={"max_retries": 2})
        with pytest.raises(anthropic.APIStatusError):
            ask(asker, client={"max_retries": 1}, scope={"bypass": True})
        assert told() == {"error": 2, "upstream_calls": 5}

    def test_that_is_cancelled_is_an_error(self, claude: ClaudeServer, aicache_isolated: None) -> None:
        async def asking() -> None:
            async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="key") as plain:
                call = asyncio.create_task(aicache.wrap(plain).messages.create(**QUESTION))
                while not claude.count:
                    await asyncio.sleep(0.005)
                call.cancel()
                with suppress(asyncio.CancelledError):
                    await call

        claude.latency = 5
        with aicache.scope(tenant="acme"):
            asyncio.run(asking())
        assert told() == {"error": 1, "upstream_calls": 1}

    def test_without_redis_is_degraded(self, asker: Asker) -> None:
        with without_redis():
            ask(asker)
        assert told() == {"degraded": 1, "upstream_calls": 1}

    def test_that_is_no_call_of_messages_is_none(self, asker: Asker) -> None:
        with aicache.scope(tenant="acme"):
            messages = QUESTION["messages"]
            asker.run(lambda client: client.messages.count_tokens(model=QUESTION["model"], messages=messages))
        assert everybody_told() == {}


class TestARequest:
    def test_that_renews_a_stale_answer_is_no_call(self, asker: Asker, claude: ClaudeServer) -> None:
        policy = {"POLICIES": {"stale": {"ttl": 0.05, "stale_while_revalidate": 60}}, "NAMESPACE": uuid.uuid4().hex}

        async def asking(client: Any) -> None:
            await client.messages.create(**QUESTION)
            await asyncio.sleep(0.06)
            await client.messages.create(**QUESTION)
            while claude.count < 2 or claude.in_flight:
                await asyncio.sleep(0.01)

        with override_settings(AICACHE=policy), aicache.scope(tenant="acme", policy="stale"):
            if asker.colour == "sync":
                asker.create()
                time.sleep(0.06)
                asker.run(lambda client: (client.messages.create(**QUESTION), until(lambda: claude.count == 2, "none")))
            else:
                asker.run(asking)
        assert told() == {"miss": 1, "stale": 1, "upstream_calls": 2}

    @pytest.mark.parametrize("scope", [{}, {"bypass": True}])
    def test_that_finds_nobody_was_not_sent(self, asker: Asker, scope: dict[str, Any]) -> None:
        with pytest.raises(anthropic.APIConnectionError):
            ask(asker, scope=scope, client={"base_url": "http://127.0.0.1:1", "max_retries": 1})
        assert told() == {"error": 1}

    def test_that_lacks_its_key_was_not_sent(self, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
        with pytest.raises((TypeError, anthropic.AnthropicError)):
            ask(asker, client={"api_key": None})
        assert told() in ({"error": 1}, {})

    def test_that_gets_no_answer_in_time_was_sent(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.latency = 1
        with pytest.raises(anthropic.APITimeoutError):
            ask(asker, client={"timeout": 0.1})
        until(lambda: claude.count == 1, "it never came")
        assert told() == {"error": 1, "upstream_calls": 1}


class TestWhose:
    def test_a_call_is_that_the_sites_function_names(self, asker: Asker) -> None:
        with override_settings(AICACHE={"TENANT": lambda: 7, "NAMESPACE": uuid.uuid4().hex}):
            asker.create()
            with aicache.scope(bypass=True):
                asker.create()
        assert everybody_told() == {"7": {"miss": 1, "bypass": 1, "upstream_calls": 2}}

    def test_it_is_does_not_matter_to_a_call_that_needs_no_tenant(self, asker: Asker) -> None:
        def tenant() -> str:
            raise ZeroDivisionError

        with override_settings(AICACHE={"TENANT": tenant}):
            with aicache.scope(bypass=True):
                asker.create()
                asker.run(lambda client: aicache.remember({"a": 1}, lambda: 5)) if asker.colour == "sync" else None
            with pytest.raises(ZeroDivisionError):
                asker.create()
        calls = 2 if asker.colour == "sync" else 1
        assert everybody_told() == {"(nobody)": {"bypass": calls, "upstream_calls": calls}}

    def test_everybodys_and_the_only_ones_have_names_of_their_own(self, asker: Asker) -> None:
        ask(asker, scope={"tenant": aicache.GLOBAL})
        ask(asker, scope={"tenant": "(everybody)"})
        with override_settings(AICACHE={"SINGLE_TENANT": True, "NAMESPACE": uuid.uuid4().hex}):
            asker.create()
        named = tenant_digest("(everybody)")[:8]
        assert everybody_told() == {
            f"(everybody) [{EVERYBODY[:8]}]": {"miss": 1, "upstream_calls": 1},
            f"(everybody) [{named}]": {"miss": 1, "upstream_calls": 1},
            "(the site)": {"miss": 1, "upstream_calls": 1},
        }


class TestSaved:
    def test_is_what_the_repeats_would_have_cost(self, asker: Asker) -> None:
        ask(asker)
        infos = [aicache.info(ask(asker)) for _ in range(3)]

        figures = stats.unwritten().tenants["acme"]
        assert figures.saved_usd == sum(info.saved_usd or 0 for info in infos) > 0
        assert figures.net_usd == figures.saved_usd
        assert figures["saved_tokens"] == sum(info.saved_tokens for info in infos) > 0

    def test_is_net_of_what_writing_the_prompt_cache_cost(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda _: Reply.text("yes", input_tokens=10, output_tokens=5, cache_creation_input_tokens=4000)
        ask(asker)
        ask(asker)

        figures = stats.unwritten().tenants["acme"]
        assert figures["saved_tokens"] == 4015
        # Written costs a quarter more than plain; of the net, all are plain.
        plain_share = (figures.saved_usd - figures.net_usd) * 4
        assert 0 < plain_share < figures.net_usd

    def test_is_unpriced_where_no_price_is_known(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda received: Reply.text("yes", model="claude-of-the-far-future")
        ask(asker)
        ask(asker)
        assert told() == {"miss": 1, "hit": 1, "unpriced": 1, "upstream_calls": 1}


class TestRemember:
    def test_each_run_of_the_call_is_a_request(self, aicache_isolated: None, claude: ClaudeServer) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        async def five() -> int:
            return 5

        with aicache.scope(tenant="acme"):
            for _ in range(2):
                aicache.remember({"n": 1}, lambda: 5)
                asyncio.run(aicache.remember({"n": 2}, five))
                with pytest.raises(ZeroDivisionError):
                    aicache.remember({"n": 3}, fail)
            with aicache.scope(bypass=True):
                aicache.remember({"n": 1}, lambda: 5)
        aicache.remember({"n": 1}, lambda: 5)

        assert everybody_told() == {
            "acme": {"miss": 2, "hit": 2, "error": 2, "bypass": 1, "unpriced": 2, "upstream_calls": 5},
            "(nobody)": {"unscoped": 1, "upstream_calls": 1},
        }

    def test_one_that_is_not_awaited_is_nothing(self, aicache_isolated: None, flusher: Flusher) -> None:
        async def five() -> int:
            return 5

        with aicache.scope(tenant="acme"):
            aicache.remember({"n": 1}, five).close()
        assert flusher.counts.settled() == (0, 0)


def test_a_served_entry_is_noted(asker: Asker, flusher: Flusher) -> None:
    with aicache.scope(tenant="acme") as calls:
        for _ in range(3):
            asker.create()
    (key,) = {call.key for call in calls}
    assert flusher.hits._noted == {(tenant_digest("acme"), key): 2}
    assert flusher.hits._site is site
    assert site(get_settings())


def test_nothing_is_under_way_when_all_has_ended(asker: Asker, claude: ClaudeServer, flusher: Flusher) -> None:
    claude.script(Reply.error(529, headers=NO_PAUSE))
    ask(asker, client={"max_retries": 1})
    ask(asker)
    claude.answer = lambda _: Reply.error(400)
    with pytest.raises(anthropic.BadRequestError):
        ask(asker, system="other")
    events, expected = flusher.counts.settled()
    assert events == expected == 11  # 3 requests and their ends, one answer, and the ends of 4 attempts


@pytest.mark.parametrize("broken", ["began", "ended", "sent", "not_sent"])
def test_counting_that_fails_is_told_once_and_is_nobodys_error(
    asker: Asker,
    claude: ClaudeServer,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with ExitStack() as stack:
        patch = stack.enter_context(monkeypatch.context())
        patch.setattr(Counts, broken, fail)
        patch.setattr("aicache.ledger.counting._told", False)
        for _ in range(2):
            assert aicache.info(ask(asker)).status in ("miss", "hit")
            with pytest.raises(anthropic.APIConnectionError):
                ask(asker, scope={"bypass": True}, client={"base_url": "http://127.0.0.1:1"})
    claude.reset()

    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert lines == ["calls are not counted"]
