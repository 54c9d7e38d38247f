"""HTTP/1.1 on 127.0.0.1: connections that live on, die on demand, and leave nothing behind."""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import responses as phrases
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

JOIN_SECONDS = 5.0
"""How long `Listener.close` waits for a thread that is busy in somebody else's code."""

GATE_POLL = 0.005

STOP_POLL = 0.02
"""Seconds between two looks of the accepting thread at whether it should end."""


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Response:
    """What to send, and how slowly."""

    status: int
    headers: Mapping[str, str]
    pieces: Sequence[bytes]
    """The body; one piece is one chunk where `chunked`, and `pace` seconds lie between two."""

    chunked: bool = False
    latency: float = 0.0
    pace: float = 0.0
    gate: Callable[[int], bool] | None = None
    """Asked for each piece, from 0 on, whether it may go out, and again every `GATE_POLL` seconds."""

    drop_after: int | None = None
    """Close after this many bytes of the body; 0: send nothing at all."""

    begun: Callable[[], None] = field(default=nothing)
    """Called just before the first byte goes out; never if none does."""

    finished: Callable[[], None] = field(default=nothing)
    """Called once, whatever happens, and before the last bytes go out: whoever holds the whole
    answer finds it no longer counted as under way."""

    def packets(self) -> list[bytes]:
        """What goes on the wire, one packet a write."""
        if self.drop_after == 0:
            return []
        pieces = list(self.pieces) if self.drop_after is None else list(_cut(self.pieces, self.drop_after))
        if self.chunked:
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
            if self.drop_after is None:
                pieces = [*pieces[:-1], b"".join(pieces[-1:]) + b"0\r\n\r\n"]
        head = self._head()
        if self.gate is not None:
            return [head, *pieces]
        if self.pace == 0:
            return [head + b"".join(pieces)]
        return [head + b"".join(pieces[:1]), *pieces[1:]]

    def _head(self) -> bytes:
        headers = dict(self.headers)
        if self.chunked:
            headers["transfer-encoding"] = "chunked"
        else:
            headers.setdefault("content-length", str(sum(map(len, self.pieces))))
        lines = [
            f"HTTP/1.1 {self.status} {phrases.get(self.status, '')}",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        return "\r\n".join(lines).encode("latin-1")


def _cut(pieces: Sequence[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        if size <= 0:
            return
        yield piece[:size]
        size -= len(piece)


Respond = Callable[[str, str, dict[str, str], bytes], Response]
"""Method, path with query, headers in lower case, body → response."""


class Listener(ThreadingHTTPServer):
    """Accepts connections and answers each in a thread of its own, from construction to `close`."""

    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, port: int, respond: Respond) -> None:
        self.respond = respond
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", port), Connection)
        self._name = f"claude-{self.server_port}"
        self._accepting = threading.Thread(target=self.serve_forever, args=(STOP_POLL,), name=self._name, daemon=True)
        self._accepting.start()

    def server_bind(self) -> None:
        """Without HTTPServer's reverse lookup of the host name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        name, arguments = f"{self._name}-connection", (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, name=name, daemon=True)
        with self._lock:
            self._open[request] = thread
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[request]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is one of this server's."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, end every connection, and wait for its thread."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._lock:
            open_now = dict(self._open)
        for connection in open_now:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in open_now.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


class Connection(BaseHTTPRequestHandler):
    """One connection: requests in, responses out, until either side closes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        size_told = headers.get("content-length", "0" if self.command == "GET" else "")
        if not size_told.isdecimal():  # also what is left of a request whose client left in the middle of its head
            self.close_connection = True
            self.send_error(411)
            return
        size = int(size_told)
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("the client left in the middle of its request")
        self._send(self.server.respond(self.command, self.path, headers, body))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that http.server calls

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, response: Response) -> None:
        with ExitStack() as under_way:
            under_way.callback(response.finished)
            self._wait(response.latency)
            *packets, last = response.packets() or [b""]
            if last:
                response.begun()
            for number, packet in enumerate(packets):
                self._held(response.gate, number - 1)
                self.connection.sendall(packet)
                self._wait(response.pace)
            self._held(response.gate, len(packets) - 1)
            under_way.close()
            self.connection.sendall(last)
        self.close_connection |= response.drop_after is not None

    def _held(self, gate: Callable[[int], bool] | None, number: int) -> None:
        while gate is not None and number >= 0 and not gate(number):
            self._wait(GATE_POLL)

    def _wait(self, seconds: float) -> None:
        """Sleep, but no longer than the client stays (or the server runs): ConnectionAbortedError."""
        if seconds <= 0:
            return
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    return
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionAbortedError("the client left before its answer")
                time.sleep(min(left, STOP_POLL))  # it sent its next request early: that one has to queue
