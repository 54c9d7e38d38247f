"""Processes that call, each really one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.spoken import Listened


class CallingProcess(Listened):
    """``statuses``: of the calls that have ended in it, as far as it said so."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.statuses: Counter[str] = Counter()
        self.pid = 0
        super().__init__("tests.ledger.caller", job)

    def be_ready(self) -> None:
        self.pid = self.hear()["ready"]

    def begin(self, do: str, **more: Any) -> None:
        self.say(do=do, **more)

    def do(self, do: str, **more: Any) -> dict[str, Any]:
        self.begin(do, **more)
        return self.hear()

    def noted(self, told: dict[str, Any]) -> bool:
        self.statuses.update([told["status"]] if "status" in told else [])
        return "status" in told


@contextmanager
def calling(many: int, job: dict[str, Any]) -> Iterator[list[CallingProcess]]:
    """As many, all ready, ended in the end whatever happens."""
    processes: list[CallingProcess] = []
    try:
        for _ in range(many):
            processes.append(CallingProcess(job))
        for process in processes:
            process.be_ready()
        yield processes
    finally:
        for process in processes:
            process.kill()


class Answers:
    """What ``tests.ledger.caller`` asks: "slowly …" takes a moment, "hangs …" until it is ``released``, "fails 2 …"
    fails twice and is answered then."""

    def __init__(self, claude: ClaudeServer) -> None:
        self.released = threading.Event()
        self._failed: Counter[str] = Counter()
        self._lock = threading.Lock()
        claude.answer = self

    def __call__(self, received: Received) -> Reply:
        match received.text.split():
            case "slowly", *_:
                time.sleep(0.05)
            case "hangs", *_:
                self.released.wait(60)
            case "fails", times, *_:
                with self._lock:
                    self._failed[received.text] += 1
                    failed = self._failed[received.text]
                if failed <= int(times):
                    return Reply.error(529, headers={"retry-after-ms": "5"})
        return Reply.text(f"Answer to {received.text}")
