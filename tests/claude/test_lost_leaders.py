"""Those who read beside a leader whose lease is lost, and those who come where its event loop has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
import redis

import aicache
from aicache.cache import Cache, get_cache
from aicache.core.live import Live
from aicache.core.records import Ask
from aicache.store import streams
from aicache.testing import ClaudeServer, Reply
from aicache.testing.isolation import memory
from tests.claude.conftest import QUESTION, Asker
from tests.claude.streaming import TEXT, Caller, gated
from tests.claude.test_leftovers import keys
from tests.claude.test_live import Plain
from tests.claude.together import until
from tests.store.conftest import URL

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who reads looks often after who leads, and a lease that nobody renews ends soon."""
    for patience in ("store.streams.CHECK_EVERY", "store.streams.STEP", "testing.memory.CHECK_EVERY"):
        monkeypatch.setattr(f"aicache.{patience}", 0.05)
    for lease in ("store.LEASE", "store.streams.LEASE"):
        monkeypatch.setattr(f"aicache.{lease}", 1.0)
    monkeypatch.setattr("aicache.store.leases.RENEW_EVERY", 0.2)
    with aicache.scope(tenant="acme"):
        yield


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> list[Ask]:
    """What is asked of upstream."""
    asked, begun = [], Cache._begun

    def noted(cache: Cache, operation: Any) -> Any:
        asked.append(operation.ask)
        return begun(cache, operation)

    monkeypatch.setattr(Cache, "_begun", noted)
    return asked


@pytest.fixture(params=["redis", "memory"])
def anywhere(request: pytest.FixtureRequest, aicache_isolated: None) -> Iterator[None]:
    if request.param == "redis":
        yield
    else:
        with memory():
            yield


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Live]:
    """Those that were opened."""
    opened, opening = [], Live.open

    def noted(live: Live, *arguments: Any, **more: Any) -> None:
        opened.append(live)
        opening(live, *arguments, **more)

    monkeypatch.setattr(Live, "open", noted)
    return opened


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How often those who read have come to look after who leads."""
    looked, must = [], streams.Streams._must_look

    def noted(self: streams.Streams, check: Any) -> bool:
        looked.append(1.0)
        return must(self, check)

    monkeypatch.setattr(streams.Streams, "_must_look", noted)
    return looked


def test_who_reads_beside_a_leader_whose_lease_is_gone_reads_on(
    asker: Asker, claude: ClaudeServer, looks: list[float], aicache_isolated: None
) -> None:
    with gated(claude) as gate:
        gate.open_to(4)
        leader = Caller(asker).reads(3)
        follower = Caller(asker).reads(3).asks_for_more()
        with redis.Redis.from_url(URL) as server:
            assert server.delete(*keys())
        until(lambda: not len(get_cache().store.leases), "its loss is not noticed")
        looks.clear()
        until(lambda: len(looks) > 5, "nobody looks after the leader")
        gate.open()
        leader.rest()
        follower.ended()
    assert (leader.error, follower.error) == (None, None)
    assert leader.text == follower.text == f"{TEXT} (1)"
    assert (leader.info.stored, leader.info.reason) == (False, "superseded")
    assert (follower.info.status, follower.info.stored) == ("coalesced", False)


def test_where_the_answer_is_purged_who_is_on_it_reads_on_beside_who_asks_anew(
    asker: Asker, claude: ClaudeServer, asks: list[Ask], anywhere: None
) -> None:
    with gated(claude) as gate:
        gate.open_to(4)
        leader = Caller(asker).reads(3)
        follower = Caller(asker).reads(3)
        get_cache().store.stamp([asks[0].counted[-1]])
        newcomer = Caller(asker).reads(3)
        gate.open()
        for caller in (leader, follower, newcomer):
            caller.rest()
    assert [caller.error for caller in (leader, follower, newcomer)] == [None] * 3
    assert leader.text == follower.text == f"{TEXT} (1)"
    assert newcomer.text == f"{TEXT} (2)"
    assert [caller.info.stored for caller in (leader, follower, newcomer)] == [False, False, True]
    assert Caller(asker).rest().text == f"{TEXT} (2)"


@pytest.mark.parametrize(("before", "streaming", "plain"), [(0, 3, 0), (0, 0, 1), (0, 2, 2), (1, 1, 0)])
@pytest.mark.parametrize("events", [0, 1])
def test_a_stream_that_is_held_when_its_loop_has_ended_keeps_nobody_waiting(
    asker: Asker,
    claude: ClaudeServer,
    anywhere: None,
    events: int,
    before: int,
    streaming: int,
    plain: int,
    lives: list[Live],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def begin() -> Any:
        client = aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0))
        stream = await client.messages.create(**QUESTION, stream=True)
        for _ in range(events):
            await anext(stream)
        return client, stream

    def closed(*_: Any, **__: Any) -> None:
        raise RuntimeError("Event loop is closed")

    async def end() -> None:
        await stream.close()
        await client.close()

    with gated(claude) as gate, asyncio.Runner() as runner:
        gate.open_to(4)
        client, stream = runner.run(begin())
        claude.answer = lambda _: Reply.text("anew")
        waiting = [Plain(asker) for _ in range(before)]
        until(lambda: lives[0]._here == before, "they do not wait")
        with monkeypatch.context() as patched:
            patched.setattr(runner.get_loop(), "call_soon_threadsafe", closed)
            callers = [Caller(asker).asks_for_more() for _ in range(streaming)]
            waiting += [Plain(asker) for _ in range(plain)]
            for caller in callers:
                caller.ended()
            texts = [caller.text for caller in callers] + [caller.ended().content[0].text for caller in waiting]
        runner.run(end())
    assert [caller.error for caller in callers] == [None] * streaming
    assert texts == ["anew"] * (before + streaming + plain)
    assert claude.count == 2
