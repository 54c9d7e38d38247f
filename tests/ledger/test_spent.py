"""What upstream charges, answer by answer; and how long it took."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from django.test import override_settings
from genai_prices import extract_usage

import aicache
from aicache.ledger import stats
from aicache.ledger.figures import HIT_BINS, UPSTREAM_BINS
from aicache.ledger.flusher import Flusher
from aicache.ledger.stats import Figures
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.prompts import question, system
from tests.claude.together import held, together, until

USAGE = {"input_tokens": 100, "output_tokens": 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
PRICE: Decimal = (
    extract_usage({"model": QUESTION["model"], "usage": USAGE}, provider_id="anthropic").calc_price().total_price
)
POLICIES = {
    "drains": {"drain": True},
    "stale": {"ttl": 0.05, "stale_while_revalidate": 60},
    "prewarms": {"prompt_cache": {"leader": "prewarm", "settle": "adaptive"}},
    "streams": {"prompt_cache": {"leader": "stream", "settle": "adaptive"}},
}
LONG = {"system": system()}


@pytest.fixture(autouse=True)
def _site(flusher: Flusher, claude: ClaudeServer) -> Iterator[None]:
    claude.answer = lambda _: Reply.text("You get it back. " * 20, **USAGE)
    with override_settings(AICACHE={"POLICIES": POLICIES, "NAMESPACE": uuid.uuid4().hex}):
        yield
    until(
        lambda: len(set(flusher.counts.settled())) == 1,
        lambda: f"{flusher.counts._under_way} {flusher.counts._out} {flusher.counts.settled()}",
        10,
    )


def told() -> Figures:
    return stats.unwritten().total


def is_spent(answers: int, *, unpriced: int = 0, price: Decimal = PRICE) -> None:
    """For so many, and for no more."""
    found = told()
    assert (found.usd("spent"), found["unpriced_spent"]) == (answers * price, unpriced)
    assert found["upstream_tokens"] == answers * 150
    timed(answers + unpriced)


def timed(answers: int) -> None:
    """Each answer is, once; however its body ended."""
    found = told()
    assert sum(found[name] for name in UPSTREAM_BINS) == answers
    assert found["upstream_ms"] > 0 or not answers


async def _all(stream: Any) -> list[Any]:
    return [piece async for piece in stream]


def run(asker: Asker, ask: Callable[[Any], Any], **scope: Any) -> Any:
    """``ask``: written for a sync client; what it returns is awaited, and read if it streams, for the async one."""
    with aicache.scope(**{"tenant": "acme", **scope}):
        return asker.run(lambda client: _awaited(ask(client)) if asker.colour == "async" else _read(ask(client)))


def _read(found: Any) -> Any:
    if isinstance(found, anthropic.Stream):
        return list(found)
    if hasattr(found, "__enter__"):
        with found as opened:
            return opened.get_final_message() if hasattr(opened, "get_final_message") else opened.read()
    return found


async def _awaited(found: Any) -> Any:
    if inspect.isawaitable(found):
        found = await found
    if isinstance(found, anthropic.AsyncStream):
        return await _all(found)
    if hasattr(found, "__aenter__"):
        async with found as opened:
            return await (opened.get_final_message() if hasattr(opened, "get_final_message") else opened.read())
    return found


WAYS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda client: client.messages.create(**QUESTION),
    "beta": lambda client: client.beta.messages.create(**QUESTION),
    "raw": lambda client: client.messages.with_raw_response.create(**QUESTION),
    "streaming response": lambda client: client.messages.with_streaming_response.create(**QUESTION),
    "stream": lambda client: client.messages.create(**QUESTION, stream=True),
    "stream helper": lambda client: client.messages.stream(**QUESTION),
    "parse": lambda client: client.messages.parse(**QUESTION),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_answer_is_charged_once_however_it_is_asked_for_and_its_repeats_are_not(asker: Asker, way: str) -> None:
    for _ in range(3):
        run(asker, WAYS[way])
    is_spent(1)
    assert told()["hit"] == 2
    assert told().usd("saved") == 2 * PRICE


def test_a_replay_in_the_other_form_costs_nothing(asker: Asker) -> None:
    for way in ("stream", "plain", "raw", "stream helper"):
        run(asker, WAYS[way])
    is_spent(1)


@pytest.mark.parametrize("way", ["plain", "beta", "raw", "parse"])
@pytest.mark.parametrize("scope", [{"bypass": True}, {"tenant": None}])
def test_what_passes_the_cache_by_is_charged_too(asker: Asker, way: str, scope: dict[str, Any]) -> None:
    for _ in range(2):
        run(asker, WAYS[way], **scope)
    is_spent(2)


@pytest.mark.parametrize("way", ["streaming response", "stream", "stream helper"])
def test_of_a_stream_that_passes_the_cache_by_nobody_reads_what_it_costs(asker: Asker, way: str) -> None:
    run(asker, WAYS[way], bypass=True)
    is_spent(0, unpriced=1)


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_read_where_the_prompt_cache_is_measured(asker: Asker, claude: ClaudeServer, stream: bool) -> None:
    asked = {**QUESTION, **LONG, **({"stream": True} if stream else {})}
    run(asker, lambda client: client.messages.create(**asked), bypass=True)
    is_spent(1)


def test_without_the_cache_it_is_charged_too(asker: Asker) -> None:
    with override_settings(AICACHE={"ENABLED": False}):
        run(asker, WAYS["plain"])
    is_spent(1)


def test_a_call_that_is_retried_is_charged_for_its_answer(asker: Asker, claude: ClaudeServer) -> None:
    claude.script(Reply.error(529, headers={"retry-after-ms": "1"}), Reply.error(500, headers={"retry-after-ms": "1"}))
    with aicache.scope(tenant="acme"):
        asker.create(client={"max_retries": 2})
    is_spent(1)
    assert told()["upstream_calls"] == 3


@pytest.mark.parametrize("scope", [{}, {"bypass": True}, {"tenant": None}])
@pytest.mark.parametrize("way", ["plain", "stream"])
def test_a_failure_costs_nothing_and_takes_no_time(
    asker: Asker, claude: ClaudeServer, way: str, scope: dict[str, Any]
) -> None:
    claude.answer = lambda _: Reply.error(400)
    with pytest.raises(anthropic.BadRequestError):
        run(asker, WAYS[way], **scope)
    is_spent(0)


@pytest.mark.parametrize("scope", [{}, {"bypass": True}])
def test_nor_does_what_finds_nobody_or_gets_no_answer_in_time(
    asker: Asker, claude: ClaudeServer, scope: dict[str, Any]
) -> None:
    claude.latency = 0.5
    with aicache.scope(tenant="acme", **scope):
        for client in ({"base_url": "http://127.0.0.1:1"}, {"timeout": 0.1}):
            with pytest.raises(anthropic.APIConnectionError):
                asker.create(client=client)
    is_spent(0)
    until(lambda: not claude.in_flight, "the server is at work")


def test_a_model_that_is_not_on_the_list_is_unpriced(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("yes", model="claude-of-the-far-future", **USAGE)
    run(asker, WAYS["plain"])
    run(asker, WAYS["stream"], tenant="globex")
    found = told()
    assert (found.usd("spent"), found["unpriced_spent"], found["upstream_tokens"]) == (0, 2, 300)


@pytest.mark.parametrize("body", [b"no JSON", b"[1, 2]", b'"\xff"', b"[" * 100_000])
def test_an_answer_that_is_no_message_is_unpriced(asker: Asker, claude: ClaudeServer, body: bytes) -> None:
    claude.answer = lambda _: Reply.raw(200, {"content-type": "application/json"}, body)
    with suppress(Exception):
        run(asker, WAYS["raw"])
    is_spent(0, unpriced=1)


class TestStreams:
    @pytest.mark.parametrize(
        "reply",
        [Reply.drop(after_bytes=300), Reply.text("two words", error_after=3, **USAGE), Reply.drop(after_bytes=900)],
    )
    def test_one_that_does_not_come_to_its_end_is_unpriced(
        self, asker: Asker, claude: ClaudeServer, reply: Reply
    ) -> None:
        claude.answer = lambda _: reply
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIError)):
            run(asker, WAYS["stream"])
        is_spent(0, unpriced=1)

    @pytest.mark.parametrize(("policy", "answers"), [("default", 0), ("drains", 1)])
    def test_one_that_its_caller_leaves_is_charged_where_it_is_read_to_its_end(
        self, asker: Asker, claude: ClaudeServer, policy: str, answers: int
    ) -> None:
        def leaving(client: Any) -> None:
            stream = client.messages.create(**QUESTION, stream=True)
            next(iter(stream))
            stream.close()
            until(lambda: told()["upstream_tokens"] or told()["unpriced_spent"], "it is not over")

        async def aleaving(client: Any) -> None:
            stream = await client.messages.create(**QUESTION, stream=True)
            async for _ in stream:
                break
            await stream.close()
            while not any(told()[name] for name in ("upstream_tokens", "unpriced_spent")):
                await asyncio.sleep(0.005)

        claude.answer = lambda _: Reply.text("You get it back. " * 20, pace=0.01, **USAGE)
        with aicache.scope(tenant="acme", policy=policy):
            asker.run(aleaving if asker.colour == "async" else leaving)
        is_spent(answers, unpriced=1 - answers)

    def test_one_that_is_dropped_unread_is_unpriced(self, asker: Asker) -> None:
        with aicache.scope(tenant="acme"):
            if asker.colour == "sync":
                asker.run(lambda client: client.messages.create(**QUESTION, stream=True) and None)
            else:

                async def dropping(client: Any) -> None:
                    await client.messages.create(**QUESTION, stream=True)

                asker.run(dropping)
        import gc

        until(lambda: gc.collect() * 0 + told()["unpriced_spent"] + told()["upstream_tokens"], "it is not over")
        found = told()
        assert found["unpriced_spent"] + (found["upstream_tokens"] == 150) == 1

    def test_many_who_read_one_as_it_comes_pay_for_one(self, asker: Asker, claude: ClaudeServer) -> None:
        claude.answer = lambda _: Reply.text("You get it back. " * 20, pace=0.01, **USAGE)

        def ask(client: Any) -> None:
            threads = [
                threading.Thread(target=lambda: list(client.messages.create(**QUESTION, stream=True))) for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)

        async def aask(client: Any) -> None:
            async def one() -> None:
                await _all(await client.messages.create(**QUESTION, stream=True))

            await asyncio.gather(*(one() for _ in range(5)))

        with override_settings(AICACHE={"POLICIES": POLICIES, "NAMESPACE": uuid.uuid4().hex, "TENANT": lambda: "acme"}):
            asker.run(aask if asker.colour == "async" else ask)
        is_spent(claude.count)
        assert claude.count == 1
        assert told()["miss"] == 1


def test_many_who_ask_at_once_pay_for_one(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme"), held(claude, (1, 4)):
        claude.answer, answer = claude.answer, None
        together(asker, 5)
    del answer
    found = told()
    assert (found["miss"], found["coalesced"], found["unpriced_spent"]) == (1, 4, 0)
    timed(1)
    assert found.usd("saved") == 4 * found.usd("spent") > 0
    assert found["waits"] == 4
    assert found["waited_ms"] > 0


def test_a_renewal_in_the_background_is_charged(asker: Asker, claude: ClaudeServer) -> None:
    async def asking(client: Any) -> None:
        await client.messages.create(**QUESTION)
        await asyncio.sleep(0.06)
        await client.messages.create(**QUESTION)
        while told()["upstream_tokens"] < 300:
            await asyncio.sleep(0.01)

    def ask(client: Any) -> None:
        client.messages.create(**QUESTION)
        time.sleep(0.06)
        client.messages.create(**QUESTION)
        until(lambda: told()["upstream_tokens"] == 300, "it is not charged")

    with aicache.scope(tenant="acme", policy="stale"):
        asker.run(asking if asker.colour == "async" else ask)
    is_spent(2)
    assert (told()["miss"], told()["stale"]) == (1, 1)


def test_a_prewarm_is_charged_beside_its_call(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme", policy="prewarms"):
        asker.create(**question("one", **LONG))
    assert claude.count == 2
    is_spent(2)


def test_a_plain_call_that_is_made_as_a_stream_is_charged_once(asker: Asker, claude: ClaudeServer) -> None:
    with aicache.scope(tenant="acme", policy="streams"):
        asker.create(**question("one", **LONG))
    assert [call.body.get("stream") for call in claude.calls] == [True]
    is_spent(1)


@pytest.mark.parametrize("reply", [Reply.drop(after_bytes=300), Reply.text("two words", error_after=3, **USAGE)])
def test_a_plain_call_that_is_made_as_a_stream_which_breaks_is_unpriced(
    asker: Asker, claude: ClaudeServer, reply: Reply
) -> None:
    claude.answer = lambda _: reply
    with aicache.scope(tenant="acme", policy="streams"), pytest.raises(anthropic.APIError):
        asker.create(**question("one", **LONG))
    is_spent(0, unpriced=1)


def test_what_is_remembered_has_no_price_that_anybody_knows(flusher: Flusher) -> None:
    async def five() -> int:
        await asyncio.sleep(0.01)
        return 5

    def fail() -> None:
        raise ZeroDivisionError

    def slow() -> int:
        time.sleep(0.01)
        return 5

    with aicache.scope(tenant="acme"):
        for _ in range(2):
            aicache.remember({"n": 1}, slow)
            asyncio.run(aicache.remember({"n": 2}, five))
            with pytest.raises(ZeroDivisionError):
                aicache.remember({"n": 3}, fail)
        with pytest.raises(aicache.errors.AicacheError):
            aicache.remember({"n": 4}, object)
        with aicache.scope(bypass=True):
            aicache.remember({"n": 1}, slow)
    is_spent(0, unpriced=3)
    assert told()["upstream_calls"] == 6


class TestLatency:
    def test_of_a_hit_is_counted_in_one_bin_each(self, asker: Asker) -> None:
        for way in ("plain", "raw", "stream", "streaming response"):
            run(asker, WAYS[way])
        found = told()
        assert sum(found[name] for name in HIT_BINS) == found["hit"] == 3
        assert found["hit_us"] > 0

    def test_of_a_remembered_value_too(self, flusher: Flusher) -> None:
        async def five() -> int:
            return 5

        with aicache.scope(tenant="acme"):
            for _ in range(3):
                aicache.remember({"n": 1}, lambda: 5)
                asyncio.run(aicache.remember({"n": 2}, five))
        found = told()
        assert sum(found[name] for name in HIT_BINS) == found["hit"] == 4

    def test_of_misses_failures_and_what_passes_by_is_none(self, asker: Asker, claude: ClaudeServer) -> None:
        run(asker, WAYS["plain"])
        run(asker, WAYS["plain"], bypass=True)
        claude.answer = lambda _: Reply.error(400)
        with pytest.raises(anthropic.BadRequestError):
            run(asker, WAYS["plain"], tenant="globex")
        found = told()
        assert sum(found[name] for name in HIT_BINS) == found["hit_us"] == 0

    @pytest.mark.parametrize("way", ["plain", "stream", "raw"])
    def test_of_upstream_is_about_what_it_took_until_the_answer_or_its_stream(
        self, asker: Asker, claude: ClaudeServer, way: str
    ) -> None:
        claude.latency = 0.3
        run(asker, WAYS[way])
        found = told()
        assert 300 <= found["upstream_ms"] < 2000
        assert found["upstream_0"] == 0
        timed(1)
