"""Nothing is left behind, however a stream's consumer ends: no connection, thread, task or key."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import httpx2
import pytest

import aicache
from aicache.cache import get_cache
from aicache.claude.source import Source
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION
from tests.claude.streaming import TEXT
from tests.claude.together import auntil, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

# How it ends: after how many events its consumer stops, whether it closes or only drops the stream, what upstream does;
# and whether the answer is then kept.
ENDS: dict[str, tuple[int | None, bool, dict[str, Any], bool]] = {
    "read to its end": (None, True, {}, True),
    "at message_stop": (12, True, {}, True),
    "at message_stop, and dropped": (12, False, {}, True),
    "before it": (11, True, {"pace": 0.01}, False),
    "at once": (1, True, {"pace": 0.01}, False),
    "at once, and dropped": (1, False, {"pace": 0.01}, False),
    "never read": (0, True, {"pace": 0.01}, False),
    "never read, and dropped": (0, False, {"pace": 0.01}, False),
    "an error in it": (None, True, {"error_after": 5}, False),
    "cut off": (None, True, {"drop_after": 700}, False),
}
BROKEN = (anthropic.APIError, httpx2.HTTPError)
ENDINGS = pytest.mark.parametrize("end", ENDS)


def is_idle(client: Any) -> bool:
    """Whether each connection of the client's is free for the next call, or gone."""
    return all(connection.is_idle() for connection in client._client._transport._pool.connections)


def keys() -> list[bytes]:
    store = get_cache().store
    found: list[bytes] = store.connections.run(lambda keys, _: (yield ("KEYS", f"aicache:{keys.site}:*")))
    return [key for key in found if b":w:" in key or b":v:" in key]


def helpers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("aicache-stream", "aicache-renew")]


def left_behind(claude: ClaudeServer, client: Any) -> list[Any]:
    busy = [] if is_idle(client) else client._client._transport._pool.connections
    return [*busy, *([claude.in_flight] if claude.in_flight else []), *keys(), *helpers()]


@ENDINGS
def test_of_a_thread(claude: ClaudeServer, aicache_isolated: None, end: str) -> None:
    events, closes, reply, is_kept = ENDS[end]
    claude.script(Reply.text(TEXT, **reply))
    with aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0)) as client:
        with aicache.scope(tenant="acme") as calls:
            stream = client.messages.create(**QUESTION, stream=True)
            with suppress(*BROKEN):
                iterator = iter(stream)
                for _ in range(10**6 if events is None else events):
                    if next(iterator, None) is None:
                        break
            if closes:
                stream.close()
            del stream
            iterator = None
            gc.collect()
            until(lambda: not left_behind(claude, client), lambda: str(left_behind(claude, client)))
            assert calls.last is not None
            assert calls.last.stored is is_kept
            assert client.messages.create(**QUESTION).content
            assert [call.status for call in calls][-1] == ("hit" if is_kept else "miss")
    assert claude.count == (1 if is_kept else 2)


@ENDINGS
def test_of_a_task(claude: ClaudeServer, aicache_isolated: None, end: str) -> None:
    events, closes, reply, is_kept = ENDS[end]
    claude.script(Reply.text(TEXT, **reply))

    async def main() -> None:
        async with aicache.wrap(anthropic.AsyncAnthropic(base_url=claude.url, api_key="k", max_retries=0)) as client:
            tasks = asyncio.all_tasks()
            with aicache.scope(tenant="acme") as calls:
                await consumed(lambda: client.messages.create(**QUESTION, stream=True), events, closes)
                gc.collect()
                await auntil(lambda: not left_behind(claude, client), "something is left")
                await auntil(
                    lambda: {task for task in asyncio.all_tasks() if not is_ours(task)} <= tasks, "a task is left"
                )
                assert calls.last is not None
                assert calls.last.stored is is_kept
                assert (await client.messages.create(**QUESTION)).content
                assert [call.status for call in calls][-1] == ("hit" if is_kept else "miss")

    asyncio.run(main())
    assert claude.count == (1 if is_kept else 2)


def is_ours(task: asyncio.Task[Any]) -> bool:
    """The one that talks to Redis, which comes and goes with what it has to say."""
    return "Line._send" in str(task.get_coro())


def test_a_connection_that_has_been_given_back_is_left_alone(
    claude: ClaudeServer, aicache_isolated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leaves may find out too late that it was read to its end in that moment."""
    sources, taken = [], Source.taken

    def noted(source: Source) -> Any:
        sources.append(source)
        return taken(source)

    monkeypatch.setattr(Source, "taken", noted)
    with aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key="k", max_retries=0)) as client:
        with aicache.scope(tenant="acme"):
            assert list(client.messages.create(**QUESTION, stream=True))
        (connection,) = client._client._transport._pool.connections
        sources[0].interrupt()
        assert connection.is_idle()
        assert not connection.has_expired()


async def consumed(create: Callable[[], Any], events: int | None, closes: bool) -> None:
    stream = await create()
    with suppress(*BROKEN):
        iterator = aiter(stream)
        for _ in range(10**6 if events is None else events):
            if await anext(iterator, None) is None:
                break
    if closes:
        await stream.close()
