"""Steering a ClaudeServer from a process that did not start it."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener


class ClaudeControl:
    """Every verb is one request to the server, on a connection of its own. OSError: it is not there."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._opener = build_opener(ProxyHandler({}))  # 127.0.0.1 is never behind a proxy

    def state(self) -> dict[str, Any]:
        """`count`, `in_flight`, `peak`, `latency`, `lag`, `minimum`, and `calls`: a list of
        `{"number", "path", "at", "model"}`."""
        return self._ask(None)

    def set(self, **changes: Any) -> dict[str, Any]:
        """`latency`, `lag`, `minimum`, `script` (replies as `Reply.from_json` reads them), `reset`.
        All or nothing; returns the state after it. ValueError says what the server did not like."""
        return self._ask(changes)

    def reset(self) -> dict[str, Any]:
        return self.set(reset=True)

    @property
    def count(self) -> int:
        return int(self.state()["count"])

    def _ask(self, changes: dict[str, Any] | None) -> dict[str, Any]:
        body = None if changes is None else json.dumps(changes).encode()
        request = Request(f"{self.url}/_standin", data=body, headers={"content-type": "application/json"})
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                state: dict[str, Any] = json.load(response)
                return state
        except HTTPError as refused:
            with refused:
                raise ValueError(json.load(refused)["error"]["message"]) from refused
