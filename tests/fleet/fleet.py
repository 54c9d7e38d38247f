"""Starts the processes of a fleet, tells them what to ask and reads what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.spoken import Listened


class Process(Listened):
    """A worker under way."""

    def __init__(self, **options: Any) -> None:
        self.waited = 0  # how many of its callers have come to wait for somebody else's call, in all
        self.pid = 0
        self.is_busy = False  # from a question until all its answers are known
        super().__init__("tests.fleet.worker", options)

    def be_ready(self) -> None:
        self.pid = self.hear()["ready"]

    def ask(self, tenant: str, **job: Any) -> None:
        """Many times at once: ``threads`` or ``tasks``; ``retries`` for each, ``lease``: seconds."""
        self.is_busy = True
        self.say(tenant=tenant, **job)

    def answers(self) -> list[dict[str, Any]]:
        """All that it was answered, once it has been."""
        answers = []
        while "done" not in (told := self.hear()):
            answers.append(told)
        self.is_busy = False
        return answers

    def noted(self, told: dict[str, Any]) -> bool:
        self.waited = told.get("waited", self.waited)
        return "waited" in told


@contextmanager
def fleet(many: int, **options: Any) -> Iterator[list[Process]]:
    """As many workers, all ready, ended in the end whatever happens."""
    processes: list[Process] = []
    try:
        for _ in range(many):
            processes.append(Process(**options))
        for process in processes:
            process.be_ready()
        yield processes
    finally:
        for process in processes:
            process.kill()
