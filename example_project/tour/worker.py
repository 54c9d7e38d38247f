"""A worker process of the site, as the tour sees it: questions and changes go in as lines of JSON, and
answers come out."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import IO, Any, Final

from example_project.children import Command
from example_project.tour.records import Question, Save, Saved, Seen

PATIENCE: Final = 60.0  # seconds for one line


class WorkerLost(Exception):
    """The process has ended, or says nothing any more."""


class Worker(Command):
    """It ends by itself when this process is gone: then its input ends. ``heard``: all its answers."""

    def __init__(self, environment: Mapping[str, str], log: IO[str]) -> None:
        super().__init__(
            "tour_worker", environment=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: list[Seen] = []

    def start(self) -> None:
        super().start()
        threading.Thread(target=self._read, name="tour-worker", daemon=True).start()

    def ready(self) -> None:
        """Returns once it is. Raises WorkerLost."""
        self._line()

    def ask(self, question: Question) -> None:
        """Returns at once; the answers are to be had from ``answers``."""
        self._tell({"ask": asdict(question)})

    def save(self, save: Save) -> Saved:
        """Raises WorkerLost."""
        self._tell({"save": asdict(save)})
        return Saved(**json.loads(self._line()))

    def answers(self) -> list[Seen]:
        """Of the question asked before. Raises WorkerLost."""
        seen = [Seen.from_json(told) for told in json.loads(self._line())]
        self.heard += seen
        return seen

    def copied(self, keys: list[str]) -> bool:
        """Whether the database has a copy of each of these answers. Raises WorkerLost."""
        self._tell({"copied": keys})
        return bool(json.loads(self._line()))

    def die_saving(self, save: Save) -> None:
        """Returns once it is dead. Raises WorkerLost where it lives on."""
        self._tell({"save": asdict(replace(save, dies=True))})
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise WorkerLost("a worker that should have died did not") from None

    def _tell(self, told: dict[str, Any]) -> None:
        pipe = self.process.stdin
        assert pipe
        pipe.write(json.dumps(told) + "\n")
        pipe.flush()

    def kill(self) -> None:
        """As ``kill -9``: it has no chance to tidy up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _line(self) -> str:
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise WorkerLost(f"a worker said nothing for {PATIENCE:.0f} s") from None
        if not line:
            raise WorkerLost("a worker has ended")
        return line

    def _read(self) -> None:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            self._lines.put(line)
        self._lines.put("")
