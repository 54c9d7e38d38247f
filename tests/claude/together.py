"""Many callers in one instant."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from tests.claude.conftest import QUESTION, Asker


def together(asker: Asker, many: int, *, client: dict[str, Any] | None = None, **changes: Any) -> list[Any]:
    """The results of as many simultaneous calls, in threads or tasks; an exception that was raised is a result."""
    asked = {**QUESTION, **changes}
    if asker.colour == "sync":
        with asker.client(**(client or {})) as made:
            return in_threads(many, lambda _: made.messages.create(**asked))

    async def asking(made: Any) -> list[Any]:
        calls = (made.messages.create(**asked) for _ in range(many))
        return await asyncio.gather(*calls, return_exceptions=True)

    results: list[Any] = asker.run(asking, **(client or {}))
    return results


def in_threads(many: int, act: Callable[[int], Any]) -> list[Any]:
    """Each in a thread of its own, which sees the caller's scopes."""
    results: list[Any] = [None] * many
    start = threading.Barrier(many)

    def run(at: int) -> None:
        start.wait(30)
        try:
            results[at] = act(at)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[at] = error

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(run, at)) for at in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
