"""One process of a fleet that streams: asks as it is told, a JSON line each, and prints a JSON line for each answer.

echo '{"callers": [{"tenant": "acme", "streams": true}]}' | python -m tests.fleet.streamer '{"claude": "http://…"}'
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import anthropic
import django

from tests.fleet.worker import say

Stand = dict[str, int]


def question(tenant: str) -> dict[str, Any]:
    """Of one tenant only: upstream's calls can be told apart."""
    return {"model": "claude-sonnet-5", "max_tokens": 2000, "messages": [{"role": "user", "content": tenant}]}


@dataclass
class Caller:
    """``until``: leaves when it has so many deltas; by a cancellation, where it ``is_cancelled``."""

    tenant: str
    streams: bool = True
    until: int = 0
    is_cancelled: bool = False
    events: int = 0
    deltas: int = 0
    is_done: bool = False

    def has_enough(self, event: Any) -> bool:
        self.events += 1
        self.deltas += event.type == "content_block_delta"
        return 0 < self.until <= self.deltas

    def report(self, message: Any, told: Any) -> None:
        said = message.to_dict(exclude_none=True, mode="json")
        self.say(message=said, status=told.status, reason=told.reason, stored=told.stored)

    def failed(self, error: BaseException) -> None:
        self.say(error=type(error).__name__)

    def say(self, **told: Any) -> None:
        self.is_done = True
        say(tenant=self.tenant, streams=self.streams, events=self.events, at=time.time(), **told)

    def ask(self, client: Any) -> None:
        import aicache

        with aicache.scope(tenant=self.tenant):
            try:
                if not self.streams:
                    message = client.messages.create(**question(self.tenant))
                    return self.report(message, aicache.info(message))
                with client.messages.stream(**question(self.tenant)) as stream:
                    for event in stream:
                        if self.has_enough(event):
                            break
                    else:
                        return self.report(stream.get_final_message(), aicache.info(stream))
                self.say(left=True)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failed(error)

    async def aask(self, client: Any) -> None:
        import aicache

        with aicache.scope(tenant=self.tenant):
            try:
                if not self.streams:
                    message = await client.messages.create(**question(self.tenant))
                    return self.report(message, aicache.info(message))
                async with client.messages.stream(**question(self.tenant)) as stream:
                    async for event in stream:
                        if self.has_enough(event):
                            if not self.is_cancelled:
                                break
                            task = asyncio.current_task()
                            assert task is not None
                            asyncio.get_running_loop().call_later(0.05, task.cancel)  # it waits for more by then
                    else:
                        return self.report(await stream.get_final_message(), aicache.info(stream))
                self.say(left=True)
            except asyncio.CancelledError:
                self.say(left=True)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failed(error)


class Watch:
    """Says, whenever it changes, how many callers are in the middle of a stream, how many wait for a whole answer, and
    how many deltas have come to all of them."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self._said: Stand = {}
        self._telling = threading.Lock()

    def run(self) -> None:
        while True:
            self.tell()
            time.sleep(0.01)

    def tell(self) -> None:
        from aicache.cache import get_cache

        with self._telling:
            flights = list(get_cache().store.ear._flights.values())
            stand = {
                "reading": sum(caller.events > 0 and not caller.is_done for caller in self.callers),
                "waiting": sum(flight.waiters for flight in flights if not flight.news.done()),
                "deltas": sum(caller.deltas for caller in self.callers),
            }
            if stand != self._said:
                self._said = stand
                say(stand=stand)


def main(options: dict[str, Any]) -> None:
    django.setup()
    watch, clients = Watch(), Clients(base_url=options["claude"], api_key="k", max_retries=0)
    threading.Thread(target=watch.run, daemon=True).start()
    say(ready=os.getpid())
    for line in sys.stdin:
        job = json.loads(line)
        callers = watch.callers = [Caller(**told) for told in job["callers"]]
        clients.ask(callers, in_tasks=job["in_tasks"])
        watch.tell()  # nothing of them is said after that
        say(done=True)


class Clients:
    """A server's own, and its event loop: they outlive each request."""

    def __init__(self, **options: Any) -> None:
        import aicache

        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._sync = aicache.wrap(anthropic.Anthropic(**options))
        self._async = aicache.wrap(anthropic.AsyncAnthropic(**options))

    def ask(self, callers: list[Caller], *, in_tasks: bool) -> None:
        if in_tasks:
            asyncio.run_coroutine_threadsafe(self._in_tasks(callers), self._loop).result()
            return
        threads = [threading.Thread(target=caller.ask, args=(self._sync,)) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def _in_tasks(self, callers: list[Caller]) -> None:
        await asyncio.wait([asyncio.create_task(caller.aask(self._async)) for caller in callers])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
