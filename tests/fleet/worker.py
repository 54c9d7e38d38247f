"""One process of a fleet: asks a question many times at once and prints a JSON line for each answer.

python -m tests.fleet.worker '{"claude": "http://…", "threads": 50, "start": 1700000000.0}'
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import anthropic
import django

QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "What does the fleet ask?"}],
}


def main(job: dict[str, Any]) -> None:
    django.setup()
    import aicache

    lock = threading.Lock()
    question = {**QUESTION, **job.get("question", {})}
    options = {"base_url": job["claude"], "api_key": "k", "max_retries": job.get("retries", 0)}

    def say(**told: Any) -> None:
        with lock:
            print(json.dumps(told), flush=True)

    def report(answer: Any) -> None:
        told = aicache.info(answer)
        say(
            text=answer.content[0].text,
            status=told.status,
            reason=told.reason,
            stored=told.stored,
            waited=told.waited,
            at=time.time(),
        )

    def ask(client: Any) -> None:
        with aicache.scope(tenant=job.get("tenant", "acme"), refresh=job.get("refresh")):
            try:
                report(client.messages.create(**question))
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, at=time.time())

    async def aask(client: Any) -> None:
        with aicache.scope(tenant=job.get("tenant", "acme")):
            try:
                report(await client.messages.create(**question))
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, at=time.time())

    async def tasks() -> None:
        async with anthropic.AsyncAnthropic(**options) as plain:
            client = aicache.wrap(plain)
            await asyncio.gather(*(aask(client) for _ in range(job["tasks"])))

    say(ready=os.getpid())
    time.sleep(max(0.0, job.get("start", 0) - time.time()))
    if "tasks" in job:
        asyncio.run(tasks())
        return
    with anthropic.Anthropic(**options) as plain:
        client = aicache.wrap(plain)
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(job.get("threads", 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
