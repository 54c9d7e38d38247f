"""A stand-in for the Claude Messages API."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from aicache.testing.admission import refusal
from aicache.testing.prompt import Prompt
from aicache.testing.promptcache import PromptCache
from aicache.testing.received import Received
from aicache.testing.reply import Reply
from aicache.testing.responses import answered, as_json, failed
from aicache.testing.wire import Listener, Response

logger = logging.getLogger("aicache.testing")

Answer = Callable[[Received], Reply]

ECHO_CHARACTERS = 200
"""How much of the question the default answer repeats."""


class ClaudeServer:
    """Serves the real SDK over real HTTP, in threads of this process, while it is started.

    - `calls` has every `POST /v1/messages` in the order of arrival, refused ones too.
    - Scripted replies are used once each, in the order of arrival, by requests that are not
      refused; then `answer` gives the reply. The default answer never says the same thing twice.
    - A call is `in_flight` from its arrival until its last bytes are about to go out.
    - A client that leaves ends the work for it at once.
    - Everything here may be read, set and called from any thread, at any time.
    """

    def __init__(self, port: int = 0, latency: float = 0.0) -> None:
        self.promptcache = PromptCache()
        self._port = port
        self._first_latency = latency
        self._serial = 0
        self._in_flight = 0
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Calls, script, prompt cache, latency and answer as at the start. Connections stay, calls
        under way are finished, and the default answer goes on counting."""
        with self._lock:
            self._calls: list[Received] = []
            self._script: deque[Reply] = deque()
            self._peak = self._in_flight
            self.latency = self._first_latency
            self.answer: Answer = self._echo
        self.promptcache.reset()

    # Running it

    def start(self) -> Self:
        """On the port asked for; a server that is started again comes back on the port it had."""
        if self._listener is None:
            self._listener = Listener(self._port, self._respond)
            self._port = self._listener.server_port
        return self

    def stop(self) -> None:
        """Ends every connection and every thread of this server. Calls under way die."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Known once the server has been started."""
        if not self._port:
            raise RuntimeError("The server has no address yet: start() it first.")
        return f"http://127.0.0.1:{self._port}"

    # Watching and steering it

    @property
    def calls(self) -> list[Received]:
        with self._lock:
            return list(self._calls)

    @property
    def count(self) -> int:
        with self._lock:
            return len(self._calls)

    @property
    def in_flight(self) -> int:
        with self._lock:
            return self._in_flight

    @property
    def peak(self) -> int:
        """The most calls at once since the last reset."""
        with self._lock:
            return self._peak

    def script(self, *replies: Reply) -> None:
        """Adds to what is still to be used."""
        with self._lock:
            self._script.extend(replies)

    def state(self) -> dict[str, Any]:
        """What `GET /_standin` says."""
        cache = self.promptcache
        with self._lock:
            calls = [
                {"number": c.number, "path": c.path, "at": c.at, "model": c.body.get("model")} for c in self._calls
            ]
            return {
                "count": len(calls),
                "in_flight": self._in_flight,
                "peak": self._peak,
                "latency": self.latency,
                "lag": None if callable(cache.lag) else cache.lag,
                "minimum": cache.minimum,
                "calls": calls,
            }

    def set(self, changes: Mapping[str, Any]) -> None:
        """What `POST /_standin` does: `reset` first, then `latency`, `lag`, `minimum` and `script`.

        All or nothing: ValueError names what is wrong.
        """
        if unknown := set(changes) - {"reset", "latency", "lag", "minimum", "script"}:
            raise ValueError(f"cannot set {sorted(unknown)}")
        numbers = {name: changes[name] for name in ("latency", "lag", "minimum") if name in changes}
        if wrong := [name for name, value in numbers.items() if not isinstance(value, int | float)]:
            raise ValueError(f"not a number: {wrong}")
        script = [Reply.from_json(entry) for entry in changes.get("script", ())]
        if changes.get("reset"):
            self.reset()
        self.latency = numbers.get("latency", self.latency)
        self.promptcache.lag = numbers.get("lag", self.promptcache.lag)
        self.promptcache.minimum = numbers.get("minimum", self.promptcache.minimum)
        self.script(*script)

    # Answering

    def _respond(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Response:
        body: Any
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        match method, urlsplit(path).path:
            case "POST", "/v1/messages":
                return self._answer(path, headers, body)
            case "POST", "/v1/messages/count_tokens":
                refused = refusal(headers, body, answer_wanted=False)
                return failed(refused) if refused else as_json(200, {"input_tokens": Prompt(body, headers).tokens})
            case "GET", "/_standin":
                return as_json(200, self.state())
            case "POST", "/_standin":
                return self._steer(body)
            case _, place:
                return failed(Reply.error(404, message=f"Not found: {method} {place}"))

    def _answer(self, path: str, headers: dict[str, str], body: Any) -> Response:
        refused = refusal(headers, body)
        with self._lock:
            known = body if isinstance(body, dict) else {}
            received = Received(path, headers, known, at=time.time(), number=len(self._calls) + 1)
            self._calls.append(received)
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
            latency, answer = self.latency, self.answer
            scripted = self._script.popleft() if self._script and not refused else None
        if refused:
            return failed(refused, finished=self._leave)
        try:
            visit = self.promptcache.visit(received.body, received.headers)
            return answered(scripted or answer(received), received, visit, latency, finished=self._leave)
        except Exception as mistake:
            # The test's own answer function failed. Its test shall see that, not a closed connection.
            logger.exception("The answer to call %d could not be made", received.number)
            told = Reply.error(
                500, message=f"The answer function raised {mistake!r}", headers={"x-should-retry": "false"}
            )
            return failed(told, finished=self._leave)

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _echo(self, received: Received) -> Reply:
        with self._lock:
            self._serial += 1
            serial = self._serial
        question = received.text[:ECHO_CHARACTERS]
        return Reply.text(f"Answer {serial} to: {question}" if question else f"Answer {serial}")

    def _steer(self, body: Any) -> Response:
        try:
            if not isinstance(body, dict):
                raise ValueError("expected a JSON object")
            self.set(body)
        except (TypeError, ValueError) as mistake:
            return failed(Reply.error(400, message=str(mistake)))
        return as_json(200, self.state())
