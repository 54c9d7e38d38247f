"""A stream that is under way is shared while it is: from its first event on, paid once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any

import anthropic
import httpx2
import pytest
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.core.streaming import Leave
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.streaming import TEXT, Caller, gated
from tests.claude.together import PATIENCE, auntil, until, waiting

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

WHOLE = ["message_start", "content_block_start", *["content_block_delta"] * 7, "content_block_stop"]
WHOLE += ["message_delta", "message_stop"]
TOOL = {"name": "refund", "description": "Refunds", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(autouse=True)
def acme() -> Any:
    with aicache.scope(tenant="acme"):
        yield


class Plain:
    """A caller in a thread of its own who wants the whole at once."""

    def __init__(self, asker: Asker, **changes: Any) -> None:
        self.result: Any = None
        self.calls = aicache.Calls()

        def ask() -> None:
            with aicache.scope(tenant="acme") as self.calls:
                try:
                    self.result = asker.create(**changes)
                except anthropic.APIError as error:
                    self.result = error

        self._thread = threading.Thread(target=ask, daemon=True)
        self._thread.start()

    def ended(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.result


def statuses(*callers: Caller | Plain) -> Counter[str]:
    return Counter(call.status for caller in callers for call in caller.calls)


def test_who_comes_in_the_middle_sees_all_from_the_first_event_and_then_the_rest_as_it_comes(
    asker: Asker, claude: ClaudeServer
) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(5)
        leader = Caller(asker).reads(4)  # the fifth is a ping
        follower = Caller(asker).reads(4)
        assert follower.kinds == leader.kinds
        gate.open_to(7)
        follower.reads(6)
        gate.open()
        leader.rest()
        follower.rest()

    assert claude.count == 1
    assert leader.kinds == follower.kinds == WHOLE
    assert leader.text == follower.text == TEXT
    assert statuses(leader, follower) == {"miss": 1, "coalesced": 1}
    assert leader.info.stored
    assert follower.info.stored
    assert follower.info.saved_tokens > 0


def test_each_event_reaches_everybody_as_it_comes_whether_more_follow_or_not(
    asker: Asker, claude: ClaudeServer
) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(4)
        callers = [Caller(asker).reads(3), Caller(asker).reads(3), Caller(asker).reads(3)]
        for events in range(4, len(WHOLE) - 1):
            for caller in callers:
                caller.asks_for(events)
            gate.open_to(events + 1)  # and a ping
            for caller in callers:
                caller.reads(events)
        gate.open()
        assert [caller.rest().text for caller in callers] == [TEXT] * 3
    assert claude.count == 1


def test_who_follows_need_not_wait_for_who_leads(asker: Asker, claude: ClaudeServer) -> None:
    """Who has opened a stream and does not read it keeps nobody waiting: neither those who read, nor those who wait."""
    with gated(claude, Reply.text(TEXT)) as gate:
        leader = Caller(asker).opened()
        follower, plain = Caller(asker), Plain(asker)
        until(lambda: waiting() == 2, "nobody waits")
        gate.open()
        assert follower.rest().text == TEXT
        assert plain.ended().content[0].text == TEXT
        assert leader.kinds == []
        assert leader.rest().text == TEXT
    assert claude.count == 1


def test_a_plain_caller_gets_the_folded_answer_when_it_is_complete(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(5)
        leader = Caller(asker).reads(3)
        plain = Plain(asker)
        until(lambda: waiting() == 1, "it does not wait")
        gate.open()
        assert plain.ended().content[0].text == leader.rest().text
    assert claude.count == 1
    assert statuses(leader, plain) == {"miss": 1, "coalesced": 1}


def test_who_streams_waits_for_a_plain_answer_and_gets_it_as_a_stream(asker: Asker, claude: ClaudeServer) -> None:
    release = threading.Event()
    claude.answer = lambda _: (release.wait(PATIENCE), Reply.text(TEXT))[1]
    leader = Plain(asker)
    until(lambda: claude.count, "nobody leads")
    follower = Caller(asker)
    until(lambda: waiting() == 1, "it does not wait")
    release.set()
    assert leader.ended().content[0].text == follower.rest().text == TEXT
    assert claude.count == 1


def test_a_follower_who_leaves_and_one_who_is_slow_disturb_nobody(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(4)
        leader = Caller(asker).reads(3)
        leaving, slow, quick = Caller(asker).reads(2), Caller(asker).reads(1), Caller(asker).reads(3)
        leaving.leaves()
        gate.open()
        assert leader.rest().text == quick.rest().text == TEXT
        assert slow.kinds == ["message_start"]
        assert slow.rest().text == TEXT
    assert claude.count == 1
    assert (leaving.info.status, leaving.info.reason) == ("coalesced", "left")


@pytest.mark.parametrize("asker", ["sync"], indirect=True)  # of tasks, see below: their loop must live on
def test_where_the_leader_leaves_the_rest_is_read_for_those_who_follow(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT)) as gate, asker.client() as client:
        gate.open_to(4)
        leader = Caller(asker, on=client).reads(2)
        follower, plain = Caller(asker).reads(2), Plain(asker)
        until(lambda: waiting() == 1, "it does not wait")
        leader.leaves()
        gate.open()
        assert follower.rest().text == TEXT
        assert plain.ended().content[0].text == TEXT
        assert Caller(asker).rest().info.status == "hit"
    assert claude.count == 1
    assert leader.kinds == WHOLE[:2]


def test_where_all_leave_upstream_is_closed(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(4)
        leader = Caller(asker).reads(2)
        follower = Caller(asker).reads(2)
        follower.leaves()
        leader.leaves()
        until(lambda: not claude.in_flight, "upstream is not closed")
    assert claude.count == 1
    assert (leader.info.status, leader.info.reason) == ("miss", "left")


@pytest.mark.parametrize("asker", ["sync"], indirect=True)
def test_who_leaves_does_not_wait_for_upstream_though_somebody_comes_in_that_moment(
    asker: Asker, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gated(claude, Reply.text(TEXT)) as gate, asker.client() as client:
        gate.open_to(4)
        leader = Caller(asker, on=client).reads(2)
        store = get_cache().store
        perform = store.perform

        def comes(operation: Any) -> Any:
            if not isinstance(operation, Leave):
                return perform(operation)
            store.streams.followed_elsewhere(operation.token, 1)  # as a reply from Redis says it
            return True

        monkeypatch.setattr(store, "perform", comes)
        leader.leaves()  # upstream is silent
        gate.open()
        assert Caller(asker).rest().text == TEXT
    assert claude.count == 1


def test_an_error_in_the_stream_reaches_those_who_read_and_others_call_anew(asker: Asker, claude: ClaudeServer) -> None:
    failing = Reply.text(TEXT, error_after=6)
    with gated(claude, failing) as gate:
        gate.open_to(5)
        leader = Caller(asker).reads(3)
        follower, plain = Caller(asker).reads(3), Plain(asker)
        until(lambda: waiting() == 1, "it does not wait")
        claude.script(Reply.text("anew"))
        gate.open()
        leader.rest()
        follower.rest()
        assert plain.ended().content[0].text == "anew"
    assert claude.count == 2
    for reader in (leader, follower):
        assert isinstance(reader.error, anthropic.APIStatusError), reader.error
        assert "Overloaded" in str(reader.error)
        assert reader.kinds == WHOLE[:5]
    assert statuses(leader, follower, plain) == {"error": 2, "miss": 1}


def test_a_stream_that_breaks_off_breaks_for_those_who_read_it_and_others_call_anew(
    asker: Asker, claude: ClaudeServer
) -> None:
    with gated(claude, Reply.text(TEXT, drop_after=700)) as gate:
        gate.open_to(3)
        leader = Caller(asker).reads(2)
        follower, plain = Caller(asker).reads(2), Plain(asker)
        until(lambda: waiting() == 1, "it does not wait")
        claude.script(Reply.text("anew"))
        gate.open()
        leader.rest()
        follower.rest()
        assert plain.ended().content[0].text == "anew"
    assert claude.count == 2
    assert isinstance(leader.error, httpx2.RemoteProtocolError)
    assert type(follower.error) is type(leader.error)
    assert str(follower.error) == str(leader.error)
    assert statuses(leader, follower, plain) == {"error": 2, "miss": 1}


def test_who_has_got_nothing_yet_does_not_notice_that_a_stream_broke(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT, drop_after=20)) as gate:
        leader = Caller(asker).opened().asks_for_more()
        follower = Caller(asker).asks_for_more()
        until(lambda: waiting() == 1, "it does not wait")
        claude.script(Reply.text("anew"))
        gate.open()
        leader.ended()
        assert follower.ended().text == "anew"
    assert isinstance(leader.error, httpx2.RemoteProtocolError)
    assert claude.count == 2
    assert (follower.info.status, follower.info.stored) == ("miss", True)


def test_what_offers_tools_is_not_shared_before_its_end(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.text(TEXT)) as gate:
        gate.open_to(6)
        leader = Caller(asker, tools=[TOOL]).reads(4)
        follower = Caller(asker, tools=[TOOL]).asks_for_more()
        until(lambda: waiting() == 1, "it does not wait")
        assert follower.kinds == []
        gate.open()
        assert leader.rest().text == follower.ended().text == TEXT
    assert claude.count == 1


def test_a_stream_that_calls_a_tool_is_its_own_callers_alone(asker: Asker, claude: ClaudeServer) -> None:
    with gated(claude, Reply.tool_use("refund", {})) as gate:
        gate.open_to(3)
        leader = Caller(asker, tools=[TOOL]).reads(2)
        follower = Caller(asker, tools=[TOOL]).asks_for_more()
        until(lambda: waiting() == 1, "it does not wait")
        gate.open()
        leader.rest()
        follower.ended()
    assert claude.count == 2
    assert (follower.info.status, follower.info.reason) == ("miss", "not_shared")


def test_where_the_policy_shares_tools_it_is_shared_as_it_comes(asker: Asker, claude: ClaudeServer) -> None:
    policies = {"tools": {"store_tool_use": True}}
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(policy="tools"), gated(claude, Reply.tool_use("refund", {"order": 7})) as gate:
            gate.open_to(5)
            leader = Caller(asker, tools=[TOOL]).reads(3)
            follower = Caller(asker, tools=[TOOL]).reads(3)
            gate.open()
            assert leader.rest().kinds == follower.rest().kinds
    assert claude.count == 1


def test_what_dies_in_mid_stream_is_read_to_its_end_by_those_who_are_on_it_and_by_nobody_else(
    asker: Asker, claude: ClaudeServer
) -> None:
    with gated(claude) as gate, aicache.scope(tags=["prices"]):
        gate.open_to(4)
        leader = Caller(asker).reads(3)
        follower = Caller(asker).reads(3)
        get_cache().store.stamp(tags_of("prices"))
        gate.open()
        newcomer = Caller(asker).rest()
        leader.rest()
        follower.rest()
        after = Caller(asker).rest()

    assert claude.count == 2
    assert leader.text == follower.text == f"{TEXT} (1)"
    assert newcomer.text == after.text == f"{TEXT} (2)"
    assert (leader.info.stored, leader.info.reason) == (False, "superseded")
    assert [caller.info.status for caller in (leader, follower, newcomer, after)] == [
        "miss",
        "coalesced",
        "miss",
        "hit",
    ]


def tags_of(*names: str) -> Any:
    from aicache.core.tags import hanging
    from aicache.tenants import tenant_digest

    return hanging(names, tenant_digest("acme"))


def test_of_one_that_outgrows_all_limits_those_who_are_on_it_get_all_and_others_call_by_themselves(
    asker: Asker, claude: ClaudeServer
) -> None:
    policies = {"small": {"max_bytes": 2000}}
    text = "x" * 6000
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(policy="small"), gated(claude, Reply.text(text)) as gate:
            asked = {"max_tokens": 9000}
            gate.open_to(5)
            leader = Caller(asker, **asked).reads(3)
            follower, plain = Caller(asker, **asked).reads(3), Plain(asker, **asked)
            until(lambda: waiting() == 1, "it does not wait")
            gate.open_to(200)
            plain.ended()  # as soon as there is no hope left
            late = Caller(asker, **asked).asks_for_more()
            until(lambda: claude.count == 3, "it does not call by itself")
            gate.open()
            for caller in (leader, follower, late):
                assert caller.rest().text == text
    assert (leader.info.status, leader.info.reason) == ("miss", "too_large")
    assert (follower.info.status, follower.info.stored) == ("coalesced", False)
    assert [(call.status, call.reason) for call in [*plain.calls, *late.calls]] == [("miss", "not_shared")] * 2


def test_the_same_question_inside_of_reading_its_answer_gets_it_too(asker: Asker, claude: ClaudeServer) -> None:
    def ask(client: Any) -> tuple[str, str]:
        outer = inner = ""
        for event in client.messages.create(**QUESTION, stream=True):
            if event.type == "message_start":
                inner = client.messages.create(**QUESTION).content[0].text
            elif event.type == "content_block_delta":
                outer += event.delta.text
        return outer, inner

    async def aask(client: Any) -> tuple[str, str]:
        outer = inner = ""
        async for event in await client.messages.create(**QUESTION, stream=True):
            if event.type == "message_start":
                inner = (await client.messages.create(**QUESTION)).content[0].text
            elif event.type == "content_block_delta":
                outer += event.delta.text
        return outer, inner

    outer, inner = asker.run(aask if asker.colour == "async" else ask)
    assert outer == inner != ""
    assert claude.count == 1


class TestTasks:
    """Of one loop."""

    @staticmethod
    def run(claude: ClaudeServer, main: Any) -> Any:
        async def running() -> Any:
            async with aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0)) as made:
                before = asyncio.all_tasks()
                result = await main(made)
                await auntil(lambda: asyncio.all_tasks() <= before, "tasks are left behind")
                return result

        return asyncio.run(running())

    @staticmethod
    async def text(client: Any, got: list[Any] | None = None) -> str:
        text = ""
        async for event in await client.messages.create(**QUESTION, stream=True):
            if got is not None:
                got.append(event)
            if event.type == "content_block_delta":
                text += event.delta.text
        return text

    def test_a_hundred_of_them_read_one_stream(self, claude: ClaudeServer, aicache_isolated: None) -> None:
        async def main(client: Any) -> list[str]:
            tasks = [asyncio.create_task(self.text(client)) for _ in range(100)]
            await auntil(lambda: waiting() == 99, "they do not wait")
            gate.open()
            return await asyncio.gather(*tasks)

        with aicache.scope(tenant="acme") as calls, gated(claude, Reply.text(TEXT)) as gate:
            texts = self.run(claude, main)
        assert texts == [TEXT] * 100
        assert claude.count == 1
        assert Counter(call.status for call in calls) == {"miss": 1, "coalesced": 99}

    def test_a_leader_that_is_cancelled_leaves_the_others_the_whole(
        self, claude: ClaudeServer, aicache_isolated: None
    ) -> None:
        async def main(client: Any) -> str:
            led: list[Any] = []
            followed: list[Any] = []
            leader = asyncio.create_task(self.text(client, led))
            await auntil(lambda: len(led) >= 2, "nobody leads")
            follower = asyncio.create_task(self.text(client, followed))
            await auntil(lambda: len(followed) >= 2, "nobody follows")
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            gate.open()
            return await follower

        with gated(claude, Reply.text(TEXT)) as gate:
            gate.open_to(4)
            assert self.run(claude, main) == TEXT
        assert claude.count == 1

    def test_a_leader_that_is_cancelled_alone_closes_upstream(
        self, claude: ClaudeServer, aicache_isolated: None
    ) -> None:
        async def main(client: Any) -> None:
            led: list[Any] = []
            leader = asyncio.create_task(self.text(client, led))
            await auntil(lambda: len(led) >= 2, "nobody leads")
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
            await auntil(lambda: not claude.in_flight, "upstream is not closed")

        with aicache.scope(tenant="acme") as calls, gated(claude, Reply.text(TEXT)) as gate:
            gate.open_to(4)
            self.run(claude, main)
        assert calls.last is not None
        assert (calls.last.status, calls.last.reason) == ("miss", "left")

    def test_a_follower_that_is_cancelled_disturbs_nobody(self, claude: ClaudeServer, aicache_isolated: None) -> None:
        async def main(client: Any) -> str:
            followed: list[Any] = []
            leader = asyncio.create_task(self.text(client))
            await auntil(lambda: claude.count, "nobody leads")
            follower = asyncio.create_task(self.text(client, followed))
            await auntil(lambda: len(followed) >= 2, "nobody follows")
            follower.cancel()
            with pytest.raises(asyncio.CancelledError):
                await follower
            gate.open()
            return await leader

        with gated(claude, Reply.text(TEXT)) as gate:
            gate.open_to(4)
            assert self.run(claude, main) == TEXT
        assert claude.count == 1

    def test_a_stream_that_is_dropped_unread_leaves_nothing_behind(
        self, claude: ClaudeServer, aicache_isolated: None
    ) -> None:
        async def main(client: Any) -> None:
            stream = await client.messages.create(**QUESTION, stream=True)
            del stream
            gc.collect()  # early versions of the SDK hold it in a cycle
            await auntil(lambda: not claude.in_flight, "upstream is not closed")

        with gated(claude, Reply.text(TEXT)):
            self.run(claude, main)


def test_a_stream_that_is_dropped_unread_leaves_nothing_behind(claude: ClaudeServer, aicache_isolated: None) -> None:
    threads = {thread.name for thread in threading.enumerate()}
    with gated(claude, Reply.text(TEXT)):
        with aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0)) as client:
            stream = client.messages.create(**QUESTION, stream=True)
            del stream
            gc.collect()
            until(lambda: not claude.in_flight, "upstream is not closed")
    ours = {thread.name for thread in threading.enumerate()} - threads
    assert not {name for name in ours if name == "aicache-stream"}
    assert not [key for key in keys() if ":w:" in key or ":v:" in key]


def keys() -> list[str]:
    store = get_cache().store
    found = store.connections.run(lambda keys, _: (yield ("KEYS", f"aicache:{keys.site}:*")))
    return [key.decode() for key in found]


def test_pings_are_signs_of_life_for_those_who_follow_too(asker: Asker, claude: ClaudeServer) -> None:
    """A stream that thinks for long is silent but for them, and who follows is not given them."""
    body = b"".join(event + b"\n\n" for event in body_of(asker).split(b"\n\n")[:-1])
    events = [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]
    pings = [b"event: ping\ndata: {}\n\n"] * 8
    chunks = [*events[:2], *pings, *events[2:]]
    with ThinkingServer(chunks, pauses=[0.2] * len(chunks)) as url:
        thinking = Asker(asker.colour, url)
        leader = Caller(thinking, timeout=0.8).reads(1)
        follower = Caller(thinking, timeout=0.8).rest()
        leader.rest()
    assert (leader.error, follower.error) == (None, None)
    assert leader.kinds[-1] == follower.kinds[-1] == "message_stop"
    assert follower.info.status == "coalesced"


class ThinkingServer:
    """Answers each call by these chunks of a stream, with a pause before each, in seconds."""

    def __init__(self, chunks: list[bytes], pauses: list[float]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                with suppress(OSError):  # who asked may have left
                    for chunk, pause in zip(chunks, pauses, strict=True):
                        time.sleep(pause)
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.block_on_close = False  # it may be in the middle of a pause
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_renewal_in_the_background_is_followed_like_any_other_stream(asker: Asker, claude: ClaudeServer) -> None:
    policies = {"renewed": {"ttl": 0.01, "stale_while_revalidate": 60, "jitter": 0}}
    with override_settings(AICACHE={"POLICIES": policies, "NAMESPACE": uuid.uuid4().hex}):
        with aicache.scope(policy="renewed"):
            asker.run(read_by(asker, renewing(claude)))
    assert claude.count == 2


def renewing(claude: ClaudeServer) -> Any:
    """A sync and an async caller who is served a stale answer, and then wants the new one that is on its way."""
    reply = Reply.text(TEXT, pace=0.02)

    def ask(client: Any) -> None:
        claude.script(Reply.text("old"), reply)
        assert sync_text(client) == "old"
        time.sleep(0.02)
        assert sync_text(client) == "old"
        until(lambda: claude.count == 2, "it is not renewed")
        with aicache.scope(refresh=True):
            assert sync_text(client) == TEXT

    async def aask(client: Any) -> None:
        claude.script(Reply.text("old"), reply)
        assert await TestTasks.text(client) == "old"
        await asyncio.sleep(0.02)
        assert await TestTasks.text(client) == "old"
        await auntil(lambda: claude.count == 2, "it is not renewed")
        with aicache.scope(refresh=True):
            assert await TestTasks.text(client) == TEXT

    return ask, aask


def read_by(asker: Asker, both: Any) -> Any:
    return both[asker.colour == "async"]


def sync_text(client: Any) -> str:
    events = client.messages.create(**QUESTION, stream=True)
    return "".join(event.delta.text for event in events if event.type == "content_block_delta")


def test_who_leaves_at_the_end_does_not_wait_for_upstream_to_hang_up(asker: Asker, claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text(TEXT)
    with ThinkingServer([body_of(asker), b"\n"], pauses=[0, 6]) as slow:
        caller = Caller(Asker(asker.colour, slow)).reads(len(WHOLE))
        began = time.monotonic()
        caller.leaves()
        assert time.monotonic() - began < 5


def test_wherever_upstream_is_cut_nothing_partial_is_kept_and_everybody_ends_as_promised(
    asker: Asker, claude: ClaudeServer
) -> None:
    """At the end of each event, and in the middle of it."""
    claude.answer = lambda _: Reply.text(TEXT)
    with aicache.scope(bypass=True):
        sizes = [len(event) + 2 for event in body_of(asker).split(b"\n\n")[:-1]]
    ends = list(accumulate(sizes))
    cuts = sorted({*ends[:-1], *(end - size // 2 for end, size in zip(ends, sizes, strict=True))})
    assert len(cuts) > 20
    for at, cut in enumerate(cuts):
        claude.reset()
        with aicache.scope(vary=[str(cut)]), gated(claude, Reply.text(TEXT, drop_after=cut)) as gate:
            gate.open_to(4)
            leader = Caller(asker)
            readable = 3 if cut >= ends[3] else 0
            leader.opened().reads(readable)
            claude.script(Reply.text("anew"))
            follower = Caller(asker).opened().reads(readable)
            gate.open()
            leader.rest()
            follower.rest()
            has_got_something = bool(follower.events) and follower.text != "anew"
            assert isinstance(leader.error, httpx2.RemoteProtocolError), cut
            if has_got_something:
                assert type(follower.error) is type(leader.error), cut
                assert follower.kinds == leader.kinds[: len(follower.kinds)], cut
            else:
                assert follower.error is None, cut
                assert follower.text == "anew"
            again = Caller(asker).rest()
            assert again.error is None
            assert again.info.status == ("miss" if has_got_something else "hit"), (at, cut)
            assert again.text == "anew"


def body_of(asker: Asker) -> bytes:
    asked = {**QUESTION, "stream": True}

    def ask(client: Any) -> bytes:
        with client.messages.with_streaming_response.create(**asked) as response:
            return b"".join(response.iter_bytes())

    async def aask(client: Any) -> bytes:
        async with client.messages.with_streaming_response.create(**asked) as response:
            return b"".join([chunk async for chunk in response.iter_bytes()])

    body: bytes = asker.run(aask if asker.colour == "async" else ask)
    return body
