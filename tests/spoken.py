"""Processes that are told what to do, and tell what came of it, in JSON: a line each."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from queue import Queue
from typing import Any

PATIENCE = 60.0  # seconds in which a process says what is awaited of it, on a busy machine

Told = dict[str, Any]


class Spoken:
    """``python -m module 'job'`` under way."""

    def __init__(self, module: str, job: Told) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, **told: Any) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(told) + "\n")
        self.popen.stdin.flush()

    def hear(self) -> Told:
        assert self.popen.stdout is not None
        told: Told = json.loads(self.popen.stdout.readline())
        return told

    def leave(self) -> None:
        """Lets it come to its end by itself, with nothing more to do."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.ended()

    def signal(self, number: int) -> None:
        """It ends of that."""
        self.popen.send_signal(number)
        self.ended()

    def kill(self) -> None:
        self.popen.kill()
        self.ended()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()

    def ended(self) -> int:
        """Waits for it. → its exit code."""
        return self.popen.wait(PATIENCE)


class Listened(Spoken):
    """What it says is heard as it is said. ``noted``: whether that is all that is made of it."""

    def __init__(self, module: str, job: Told) -> None:
        super().__init__(module, job)
        self._told: Queue[Told] = Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def hear(self) -> Told:
        return self._told.get(timeout=PATIENCE)

    def noted(self, told: Told) -> bool:
        return False

    def ended(self) -> int:
        code = super().ended()
        self._listener.join(PATIENCE)
        return code

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            try:
                told = json.loads(line)
            except ValueError:  # it was killed in the middle of it
                return
            if not self.noted(told):
                self._told.put(told)
