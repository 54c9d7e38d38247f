"""Callers of streams that a test leads step by step, and streams that upstream sends as far as the test says."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import aicache
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.conftest import QUESTION, Asker
from tests.claude.together import PATIENCE, until

TEXT = "Refunds take up to thirty days, and are made to the card that was paid with."


class Gate:
    """Upstream sends each stream as far as ``open_to`` says: so many events, pings among them."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, number: int) -> bool:
        return number < self.sent

    def open_to(self, events: int) -> None:
        self.sent = max(self.sent, events)

    def open(self) -> None:
        self.sent = 10**9


@contextmanager
def gated(claude: ClaudeServer, reply: Reply | None = None) -> Iterator[Gate]:
    """Each stream that begins in here waits at the gate; what comes to the same is said to all."""
    gate, answer = Gate(), claude.answer

    def held(received: Received) -> Reply:
        return replace(reply or Reply.text(f"{TEXT} ({received.number})"), gate=gate)

    claude.answer = held
    try:
        yield gate
    finally:
        gate.open()
        claude.answer = answer


class Caller:
    """Reads a stream in a thread of its own, on a loop of its own where it is async, when it is told to.

    ``on``: a client that lives on when it has ended. ``events``: what it got. ``error``: what was raised to it.
    ``info``: what the cache says of the call.
    """

    def __init__(self, asker: Asker, *, on: Any = None, **changes: Any) -> None:
        self.events: list[Any] = []
        self.error: BaseException | None = None
        self.has_ended = False
        self.calls = aicache.Calls()
        self._asker = asker
        self._on = on
        self._asked = {**QUESTION, "stream": True, **changes}
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._opened = threading.Event()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True)
        self._thread.start()

    @property
    def info(self) -> aicache.CallInfo:
        last = self.calls.last
        assert last is not None
        return last

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def text(self) -> str:
        deltas = [event.delta for event in self.events if event.type == "content_block_delta"]
        return "".join(delta.text for delta in deltas if delta.type == "text_delta")

    def opened(self) -> Caller:
        assert self._opened.wait(PATIENCE)
        return self

    def reads(self, events: int) -> Caller:
        """Until it has got so many in all."""
        self._orders.put(events)
        until(lambda: len(self.events) >= events or self.has_ended, lambda: f"{self.kinds} {self.error!r}")
        return self

    def asks_for(self, events: int) -> Caller:
        """As ``reads``, without waiting for it."""
        self._orders.put(events)
        return self

    def asks_for_more(self) -> Caller:
        return self.asks_for(10**9)

    def rest(self) -> Caller:
        self._orders.put(10**9)
        return self.ended()

    def leaves(self) -> Caller:
        """Closes the stream where it stands."""
        self._orders.put("close")
        return self.ended()

    def ended(self) -> Caller:
        until(lambda: self.has_ended, lambda: f"it has got {self.kinds}, and goes on")
        self._thread.join(PATIENCE)
        return self

    def _run(self) -> None:
        try:
            with aicache.scope() as self.calls:
                if self._on is not None:
                    self._read(self._on)
                else:
                    self._asker.run(self._read if self._asker.colour == "sync" else self._aread)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            self.has_ended = True
            self._opened.set()

    def _read(self, client: Any) -> None:
        stream = client.messages.create(**self._asked)
        self._opened.set()
        events = iter(stream)
        while (wanted := self._orders.get()) != "close":
            while len(self.events) < wanted:
                if (event := next(events, None)) is None:
                    return
                self.events.append(event)
        stream.close()

    async def _aread(self, client: Any) -> None:
        stream = await client.messages.create(**self._asked)
        self._opened.set()
        events = aiter(stream)
        while (wanted := await asyncio.to_thread(self._orders.get)) != "close":
            while len(self.events) < wanted:
                if (event := await anext(events, None)) is None:
                    return
                self.events.append(event)
        await stream.close()
