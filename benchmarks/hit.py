"""What a hit costs, over what any cache must do: ask the SDK, read one key, give a message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import anthropic
import redis
from anthropic.types import Message

import aicache
from aicache.testing import ClaudeServer, Reply
from aicache.testing.valkey import Valkey
from benchmarks.figures import row, title

TIMES = 2000
# As many as a question about a document or two has: each is two stamps, the tenant's and everybody's.
TAGS = ["shop.article", "shop.article:17", "shop.price:3", "shop.price", "opening-hours"]
QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 4000,
    "system": "You answer questions of a shop's customers. " * 50,
    "messages": [{"role": "user", "content": "How do I get a refund?"}],
}


def run(server: Valkey) -> None:
    title(f"A hit, {TIMES} times")
    with ClaudeServer() as claude, redis.Redis.from_url(server.url) as store:
        claude.answer = lambda _: Reply.text("You get it back within 14 days. " * 30)

        class Floor(anthropic.Middleware):
            """A fixed key, one GET, one message: no key to compute, nothing to check."""

            def handle(self, request: Any, call_next: Any) -> Any:
                kept = store.get("floor")
                if kept is not None:
                    return Message.construct(**json.loads(kept))
                response = call_next(request)
                store.set("floor", response.http_response.content)
                return response

        with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            floor, ours = plain.with_middleware(Floor()), aicache.wrap(plain)
            upstream = _times(lambda: plain.messages.create(**QUESTION), 300)
            kept, hits, tagged = [], [], []
            for _ in range(10):
                kept += _times(lambda: floor.messages.create(**QUESTION), TIMES // 10)
                hits += _times(lambda: ours.messages.create(**QUESTION), TIMES // 10)
                with aicache.scope(tags=TAGS):
                    tagged += _times(lambda: ours.messages.create(**QUESTION), TIMES // 10)
        row("one GET in a middleware (floor)", kept, unit="µs")
        row("aicache", hits, kept, unit="µs")
        row(f"aicache, {len(TAGS)} tags", tagged, kept, unit="µs")
        row("upstream on this machine, no latency", upstream, kept, unit="µs")
        row("aicache, async", asyncio.run(_async_hits(claude)), kept, unit="µs")


def _times(act: Callable[[], Any], times: int) -> list[float]:
    act()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return took


async def _async_hits(claude: ClaudeServer) -> list[float]:
    took = []
    async with anthropic.AsyncAnthropic(base_url=claude.url, api_key="k") as plain:
        client = aicache.wrap(plain)
        await client.messages.create(**QUESTION)
        for _ in range(TIMES):
            began = time.perf_counter()
            await client.messages.create(**QUESTION)
            took.append(time.perf_counter() - began)
    return took
