"""One process of a fleet: asks as it is told, a JSON line each, and prints a JSON line for each answer.

echo '{"threads": 50}' | python -m tests.fleet.worker '{"claude": "http://…"}'
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import anthropic
import django

QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "What does the fleet ask?"}],
}

_saying = threading.Lock()


def say(**told: Any) -> None:
    with _saying:
        print(json.dumps(told), flush=True)


def main(options: dict[str, Any]) -> None:
    django.setup()
    waits = Waits()
    threading.Thread(target=waits.watch, daemon=True).start()
    say(ready=os.getpid())
    for line in sys.stdin:
        job = json.loads(line)
        with leases_of(job.get("lease")):
            do(options["claude"], job)
        waits.tell()
        say(done=True)


@contextmanager
def leases_of(seconds: float | None) -> Iterator[None]:
    """None: as long as ever."""
    from aicache import store
    from aicache.store import leases

    if seconds is None:
        yield
        return
    with (
        patch.object(store, "LEASE", seconds),
        patch.object(leases, "LEASE", seconds),
        patch.object(leases, "RENEW_EVERY", seconds / 3),
    ):
        yield


class Waits:
    """Says how many have come to wait for somebody else's call, in all, whenever there are more."""

    def __init__(self) -> None:
        self._came: dict[str, int] = {}
        self._said = 0
        self._telling = threading.Lock()

    def watch(self) -> None:
        while True:
            self.tell()
            time.sleep(0.01)

    def tell(self) -> None:
        from aicache.cache import get_cache

        with self._telling:
            for token, flight in list(get_cache().store.ear._flights.items()):
                self._came[token] = max(self._came.get(token, 0), flight.waiters)
            if (now := sum(self._came.values())) > self._said:
                self._said = now
                say(waited=now)


def do(url: str, job: dict[str, Any]) -> None:
    import aicache

    options = {"base_url": url, "api_key": "k", "max_retries": job.get("retries", 0)}

    def report(answer: Any) -> None:
        told = aicache.info(answer)
        say(
            text=answer.content[0].text,
            status=told.status,
            reason=told.reason,
            stored=told.stored,
            at=time.time(),
        )

    def ask(client: Any) -> None:
        with aicache.scope(tenant=job["tenant"]):
            try:
                report(client.messages.create(**QUESTION))
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, at=time.time())

    async def aask(client: Any) -> None:
        with aicache.scope(tenant=job["tenant"]):
            try:
                report(await client.messages.create(**QUESTION))
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, at=time.time())

    async def tasks() -> None:
        async with anthropic.AsyncAnthropic(**options) as plain:
            client = aicache.wrap(plain)
            await asyncio.gather(*(aask(client) for _ in range(job["tasks"])))

    if "tasks" in job:
        asyncio.run(tasks())
        return
    with anthropic.Anthropic(**options) as plain:
        client = aicache.wrap(plain)
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(job.get("threads", 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
