"""Starts the processes of a fleet, tells them what to ask and reads what they say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

PATIENCE = 60.0  # seconds in which a process says what is awaited of it, on a busy machine


class Process:
    """A worker under way."""

    def __init__(self, **options: Any) -> None:
        self.waited = 0  # how many of its callers have come to wait for somebody else's call, in all
        self.pid = 0
        self.is_busy = False  # from a question until all its answers are known
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.worker", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told: Queue[dict[str, Any]] = Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def be_ready(self) -> None:
        self.pid = self._told.get(timeout=PATIENCE)["ready"]

    def ask(self, tenant: str, **job: Any) -> None:
        """Many times at once: ``threads`` or ``tasks``; ``retries`` for each, ``lease``: seconds."""
        self.is_busy = True
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"tenant": tenant, **job}) + "\n")
        self._popen.stdin.flush()

    def answers(self) -> list[dict[str, Any]]:
        """All that it was answered, once it has been."""
        answers = []
        while "done" not in (told := self._told.get(timeout=PATIENCE)):
            answers.append(told)
        self.is_busy = False
        return answers

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(30)
        self._listener.join(30)
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            told = json.loads(line)
            if "waited" in told:
                self.waited = told["waited"]
            else:
                self._told.put(told)


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
