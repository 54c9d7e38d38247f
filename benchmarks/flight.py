"""One uncached question from 4 processes × 50 threads: how long after the answer is ready does each waiter have it?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

from aicache.testing import ClaudeServer
from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title

PROCESSES, THREADS, ROUNDS, UPSTREAM = 4, 50, 7, 1.0
QUESTION: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 200}


def run(server: Valkey) -> None:
    title(f"Single-flight: {PROCESSES} processes × {THREADS} threads, {ROUNDS} rounds, upstream {UPSTREAM:.0f} s")
    with ClaudeServer(latency=UPSTREAM) as claude:
        bare, ours = [], []
        for at in range(ROUNDS):
            progress(f"round {at + 1} of {ROUNDS}")
            bare += _round(claude, server, "bare")
            ours += _round(claude, server, "aicache")
        called = claude.count - 2 * ROUNDS * PROCESSES  # each process warms up once
        assert called == 2 * ROUNDS, f"{called} upstream calls in {2 * ROUNDS} rounds"
    row("bare single-flight + BLMOVE", bare)
    row("aicache", ours, bare)


def _round(claude: ClaudeServer, server: Valkey, how: str) -> list[float]:
    """Seconds from the answer's being ready, as its caller saw it, to each waiter's having it."""
    job = {"how": how, "claude": claude.url, "redis": server.url, "words": uuid.uuid4().hex, "start": time.time() + 5.0}
    workers = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.flight", json.dumps(job)], stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    told = [json.loads(worker.communicate()[0]) for worker in workers]
    ready = min(at for one in told for at in one["ready"])
    return [at - ready for one in told for at in one["had"] if at != ready]


def work(job: dict[str, Any]) -> None:
    os.environ["AICACHE_BENCH_REDIS"] = job["redis"]
    import django

    django.setup()
    import anthropic

    import aicache
    from benchmarks.bare import Bare

    had: list[float] = []
    ready: list[float] = []

    class Seen(anthropic.Middleware):
        """Notes when the answer came from upstream."""

        def handle(self, request: Any, call_next: Any) -> Any:
            response = call_next(request)
            ready.append(time.time())
            return response

    plain = anthropic.Anthropic(base_url=job["claude"], api_key="k")
    if job["how"] == "bare":
        bare, noting = Bare(job["redis"]), plain.with_middleware(Seen())

        def ask(words: str) -> Any:
            call = noting.messages.with_raw_response.create
            return bare.ask(words, lambda: call(**_question(words)).http_response.content)
    else:
        # Outside of everything, a waiter's clock stops when its own code has the message; inside, the answer is seen.
        client = _inside(aicache.wrap(plain), Seen())

        def ask(words: str) -> Any:
            return client.messages.create(**_question(words))

    def caller() -> None:
        time.sleep(max(0.0, job["start"] - time.time()))
        ask(job["words"])
        had.append(time.time())

    # A server that has been up for a while: its first answer makes the SDK build its types.
    ask(f"{os.getpid()} warms up")
    ready.clear()
    threads = [threading.Thread(target=caller) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"had": had, "ready": ready}))


def _question(words: str) -> dict[str, Any]:
    return {**QUESTION, "messages": [{"role": "user", "content": words}]}


def _inside(client: Any, middleware: Any) -> Any:
    """Places a middleware nearer to upstream than the cache, which wrapping never does."""
    ours = client.middleware[-1]
    handle = ours.handle

    def noting(request: Any, call_next: Any) -> Any:
        return handle(request, lambda inner: middleware.handle(inner, call_next))

    ours.handle = noting
    client._middleware_chain = client._build_middleware_chain()
    return client


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    work(json.loads(sys.argv[1]))
