"""Claude as the tour sees it: an address, a count of the calls that reached it, and how long they take."""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from example_project.servers import HOST, StandIn

REAL: Final = "https://api.anthropic.com"
OF_ONE_CONNECTION: Final = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


class Upstream(Protocol):
    url: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def count(self) -> int:
        """The calls that have arrived so far."""

    def in_flight(self) -> int:
        """Those that are not answered yet."""

    def seconds(self) -> float:
        """How long a call takes, as far as is known."""

    def delay(self, seconds: float | None) -> None:
        """Lets every later call take at least so long; None: as long as at the start."""

    def slowly(self, text: str, pause: float) -> bool:
        """Has the next answer say this, with a pause before each few words. → whether that can be had."""


class CountedStandIn(StandIn):
    """The stand-in; its own count is what counts."""

    def __init__(self, latency: float) -> None:
        super().__init__(latency)
        self._now = latency

    def count(self) -> int:
        return self.control.count

    def in_flight(self) -> int:
        return int(self.control.state()["in_flight"])

    def seconds(self) -> float:
        return self._now

    def delay(self, seconds: float | None) -> None:
        self._now = self.latency if seconds is None else seconds
        self.control.set(latency=self._now)

    def slowly(self, text: str, pause: float) -> bool:
        self.control.set(script=[{"text": text, "pace": pause, "latency": 0.0}])
        return True


class Door:
    """Stands in front of the real API, to count: what a killed process asked is counted too.

    Only the door has the key; the workers never see it.
    """

    def __init__(self, key: str, target: str | None = None) -> None:
        self._key = key
        self._target = (target or os.environ.get("ANTHROPIC_BASE_URL") or REAL).rstrip("/")
        self._lock = threading.Lock()
        self._count = self._in_flight = 0
        self._seconds = self._delay = 0.0
        self._server: ThreadingHTTPServer | None = None
        self.url = ""

    def start(self) -> None:
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, headers, content = door.pass_on(self.path, dict(self.headers.items()), body)
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # who asked is gone

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="tour-door", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def count(self) -> int:
        return self._count

    def in_flight(self) -> int:
        return self._in_flight

    def seconds(self) -> float:
        return self._seconds

    def delay(self, seconds: float | None) -> None:
        self._delay = seconds or 0.0

    def slowly(self, text: str, pause: float) -> bool:
        """Nobody tells the real one what to say; and it comes through the door in one piece."""
        return False

    def pass_on(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of what the real API says."""
        with self._lock:
            self._count += 1
            self._in_flight += 1
        began = time.monotonic()
        try:
            time.sleep(self._delay)
            return self._forward(path, headers, body)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._seconds = time.monotonic() - began

    def _forward(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        sent = {name: value for name, value in headers.items() if name.lower() not in {*OF_ONE_CONNECTION, "x-api-key"}}
        request = Request(f"{self._target}{path}", body, {**sent, "x-api-key": self._key}, method="POST")
        try:
            answer = urlopen(request)
        except HTTPError as refused:
            answer = refused
        except URLError as error:
            return 502, [], str(error).encode()
        with answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in OF_ONE_CONNECTION]
            return answer.status, kept, answer.read()
