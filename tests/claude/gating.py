"""Policies that name the gate, and what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.test import override_settings

from aicache.cache import get_cache
from aicache.ledger import stats
from aicache.ledger.stats import NOTHING, Figures
from aicache.testing.isolation import isolated
from tests.claude.conftest import Asker
from tests.claude.prompts import MODEL, policies
from tests.claude.together import in_threads


@contextmanager
def gated(**terms: Any) -> Iterator[None]:
    """Policies "gated" and "auto", adaptive unless the terms say otherwise."""
    chosen = {**settings.AICACHE, "POLICIES": policies(**{"settle": "adaptive", **terms})}
    with override_settings(AICACHE=chosen), isolated():
        yield


def prompted(tenant: str = "acme", model: str = MODEL) -> Figures:
    return stats.unwritten().prompts.get(tenant, {}).get(model, NOTHING)


def waiting() -> int:
    """How many in this process wait at a gate."""
    flights = list(get_cache().store.ear._flights.values())
    return sum(flight.waiters for flight in flights if not flight.news.done())


def at_once(asker: Asker, requests: list[dict[str, Any]], *, stream: bool = False, **client: Any) -> list[Any]:
    """The messages, or what was raised, of calls that are made in one instant."""

    def ask(client: Any, request: dict[str, Any]) -> Any:
        if not stream:
            return client.messages.create(**request)
        with client.messages.stream(**request) as streamed:
            return streamed.get_final_message()

    async def aask(client: Any, request: dict[str, Any]) -> Any:
        if not stream:
            return await client.messages.create(**request)
        async with client.messages.stream(**request) as streamed:
            return await streamed.get_final_message()

    if asker.colour == "sync":
        with asker.client(**client) as made:
            return in_threads(len(requests), lambda at: ask(made, requests[at]))

    async def asking(client: Any) -> list[Any]:
        return await asyncio.gather(*(aask(client, request) for request in requests), return_exceptions=True)

    answers: list[Any] = asker.run(asking, **client)
    return answers


def writes(answers: list[Any]) -> int:
    return sum(answer.usage.cache_creation_input_tokens > 0 for answer in answers)
