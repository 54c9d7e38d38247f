"""Many callers in one instant, and replies that wait until they are all there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aicache.cache import get_cache
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.conftest import QUESTION, Asker

PATIENCE = 30.0  # seconds in which whoever is awaited comes, on a busy machine


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


def waiting() -> int:
    """How many in this process wait for a call that another makes. What they are told from now on they hear."""
    flights = list(get_cache().store.ear._flights.values())
    return sum(flight.waiters for flight in flights if not flight.news.done())


def renewing() -> bool:
    """Whether a thread renews a stale answer."""
    return any(thread.name == "aicache-renew" for thread in threading.enumerate())


def until(told: Callable[[], object], what: Callable[[], str] | str, seconds: float = PATIENCE) -> None:
    """Returns once it is so. AssertionError, with what is the matter, where that takes too long."""
    deadline = time.monotonic() + seconds
    while not told():
        if time.monotonic() > deadline:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(0.005)


async def auntil(told: Callable[[], object], what: str) -> None:
    """As ``until``, for a task."""
    deadline = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


@contextmanager
def held(
    claude: ClaudeServer,
    *rounds: tuple[int, int],
    replies: Sequence[Reply] = (),
    waiters: Callable[[], int] = waiting,
) -> Iterator[None]:
    """Instead of a latency: replies that begin when all who are expected have come, however long that takes.

    A round is ``(calls, waiters)``: so many calls are answered as soon as all of them are there, and so many others
    wait for them. ``replies`` come first, as scripted ones do. Calls after the last round are answered at once. Fails
    where a round did not come about.
    """
    answer, script = claude.answer, deque(replies)
    taking_turns = threading.Lock()
    missing: list[str] = []
    turns: deque[threading.Barrier] = deque()
    for calls, others in rounds:
        turns.extend([_a_round(calls, others, waiters, missing)] * calls)

    def held_back(received: Received) -> Reply:
        with taking_turns:
            turn = turns.popleft() if turns else None
            reply = script.popleft() if script else None
        if turn is not None:
            try:
                turn.wait(PATIENCE)
            except threading.BrokenBarrierError:
                missing.append(f"call {received.number} was alone: {turn.parties} at once were expected")
        return reply or answer(received)

    claude.answer = held_back
    try:
        yield
    finally:
        claude.answer = answer
    assert not missing, missing[0]
    assert not turns, f"{len(turns)} more calls were expected, and {claude.count} came in all"


def _a_round(calls: int, others: int, waiters: Callable[[], int], missing: list[str]) -> threading.Barrier:
    def all_wait() -> None:
        try:
            until(lambda: waiters() >= others, lambda: f"{waiters()} wait, and not {others}")
        except AssertionError as error:
            missing.append(str(error))

    return threading.Barrier(calls, action=all_wait)
