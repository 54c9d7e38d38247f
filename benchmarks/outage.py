"""What an outage of Redis costs a call: the first that meets it, and those after it."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import anthropic
import redis

import aicache
from aicache.cache import get_cache
from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey
from benchmarks.figures import row, title

ROUNDS, AFTER = 10, 100
QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Does the site still work?"}],
}


def run(server: Valkey) -> None:
    title("Redis is away: a call takes (promised: the first ≤ 250 ms more, the next ≤ 2 ms more)")
    with ClaudeServer() as claude, anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
        client = aicache.wrap(plain)
        normal = [_took(lambda: plain.messages.create(**QUESTION)) for _ in range(ROUNDS * AFTER)]
        row("without the cache", normal)
        logging.getLogger("aicache.store").setLevel(logging.ERROR)  # it says each change of state, as it should
        for name, hurt, heal in (("hung", _hang, _wake), ("stopped", _stop, _start)):
            first, after = [], []
            for _ in range(ROUNDS):
                client.messages.create(**QUESTION)
                mark = hurt(server)
                first.append(_took(lambda: client.messages.create(**QUESTION)))
                after += [_took(lambda: client.messages.create(**QUESTION)) for _ in range(AFTER)]
                heal(server, mark)
                while get_cache().store.connections.breaker.down:
                    time.sleep(0.02)
            row(f"{name}: the first call", first, normal)
            row(f"{name}: the calls after it", after, normal)


def _took(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _hang(server: Valkey) -> int:
    with redis.Redis.from_url(server.url) as client:
        pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    return pid


def _wake(_: Valkey, pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _stop(server: Valkey) -> int:
    server.stop()
    return 0


def _start(server: Valkey, _: int) -> None:
    server.start()
