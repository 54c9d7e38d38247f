"""Starts the processes of a fleet and reads what they say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

START = 2.0  # seconds in which a process is up, on a busy machine


class Process:
    """A worker under way. Its first line says that it is ready."""

    def __init__(self, claude: str, **job: Any) -> None:
        job = {"claude": claude, **job}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.worker", json.dumps(job)], stdout=subprocess.PIPE, text=True
        )
        assert self._popen.stdout is not None
        self._lines = self._popen.stdout
        self.pid: int = json.loads(self._lines.readline())["ready"]

    def answers(self) -> list[dict[str, Any]]:
        """All that it says until it ends."""
        told = [json.loads(line) for line in self._lines]
        self.kill()
        return told

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(30)
        self._lines.close()


@contextmanager
def processes(claude: str, *jobs: dict[str, Any], at_once: bool = True) -> Iterator[list[Process]]:
    """The workers, all ready, ended in the end whatever happens."""
    start = time.time() + START + 0.5 * len(jobs) if at_once else 0
    started: list[Process] = []
    try:
        for job in jobs:
            started.append(Process(claude, start=start, **job))
        yield started
    finally:
        for process in started:
            process.kill()
