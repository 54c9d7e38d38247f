from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

import aicache
from aicache.claude import prompting
from aicache.testing import ClaudeServer

QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "How do I get a refund?"}],
}


class Asker:
    """Asks through a sync or an async client, so that one test holds both to the same promise."""

    def __init__(self, colour: str, url: str) -> None:
        self.colour = colour
        self.url = url

    def client(self, **options: Any) -> Any:
        kind = anthropic.Anthropic if self.colour == "sync" else anthropic.AsyncAnthropic
        return aicache.wrap(kind(**{"base_url": self.url, "api_key": "key", "max_retries": 0, **options}))

    def run(self, ask: Callable[[Any], Any], **options: Any) -> Any:
        """The result of ``ask(client)``, or of the coroutine that it gives, on a loop of its own."""
        client = self.client(**options)
        if self.colour == "sync":
            with client:
                return ask(client)

        async def asking() -> Any:
            async with client:
                return await ask(client)

        return asyncio.run(asking())

    def create(self, *, client: dict[str, Any] | None = None, **changes: Any) -> Any:
        return self.run(lambda c: c.messages.create(**{**QUESTION, **changes}), **(client or {}))


@pytest.fixture(autouse=True)
def _streams_are_asked_for() -> None:
    """That the stand-in of an earlier test gave none is nothing to this one."""
    prompting._streamless.clear()


@pytest.fixture(params=["sync", "async"])
def asker(request: pytest.FixtureRequest, claude: ClaudeServer, aicache_isolated: None) -> Iterator[Asker]:
    return Asker(request.param, claude.url)
