"""The floor for single-flight: one waiter for each process, woken by BLMOVE; no fencing, no failures, no key."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import redis
from anthropic.types import Message


class Bare:
    """The first process calls; of each other one the first thread waits, and its threads wait for that thread."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._lock = threading.Lock()
        self._flights: dict[str, tuple[threading.Event, list[bytes]]] = {}

    def ask(self, key: str, call: Any) -> Message:
        with self._lock:
            mine = key not in self._flights
            event, box = self._flights.setdefault(key, (threading.Event(), []))
        if mine:
            if self._redis.set(f"lock:{key}", uuid.uuid4().hex, nx=True, ex=60):
                box.append(call())
                self._redis.lpush(f"done:{key}", box[0])
            else:
                box.append(self._redis.blmove(f"done:{key}", f"done:{key}", 60))
            event.set()
        else:
            event.wait(60)
        return Message.construct(**json.loads(box[0]))
