"""One process of a fleet that asks with long prompts: as it is told, a JSON line each; a JSON line for each answer.

echo '{"requests": [{…}], "policy": "gated", "tasks": true}' | python -m tests.fleet.prompter \
    '{"claude": "http://…", "POLICIES": {…}}'
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

_saying = threading.Lock()


def say(**told: Any) -> None:
    with _saying:
        print(json.dumps(told), flush=True)


def report(usage: Any, calls: Any, began: float) -> None:
    call = calls.last
    say(
        status=call.status,
        prompt_cache=call.prompt_cache,
        waited=call.waited,
        read=usage.cache_read_input_tokens,
        written=usage.cache_creation_input_tokens,
        took=time.monotonic() - began,
    )


def main(options: dict[str, Any]) -> None:
    from django.conf import settings

    settings.AICACHE = {**settings.AICACHE, "POLICIES": options["POLICIES"]}
    django.setup()
    import aicache

    chosen = {"base_url": options["claude"], "api_key": "k", "max_retries": 0}

    def ask(client: Any, job: dict[str, Any], request: dict[str, Any]) -> None:
        began = time.monotonic()
        with aicache.scope(tenant="acme", policy=job["policy"]) as calls:
            try:
                if job.get("stream"):
                    with client.messages.stream(**request) as stream:
                        message = stream.get_final_message()
                else:
                    message = client.messages.create(**request)
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, took=time.monotonic() - began)
                return
        report(message.usage, calls, began)

    async def aask(client: Any, job: dict[str, Any], request: dict[str, Any]) -> None:
        began = time.monotonic()
        with aicache.scope(tenant="acme", policy=job["policy"]) as calls:
            try:
                if job.get("stream"):
                    async with client.messages.stream(**request) as stream:
                        message = await stream.get_final_message()
                else:
                    message = await client.messages.create(**request)
            except anthropic.AnthropicError as error:
                say(error=type(error).__name__, took=time.monotonic() - began)
                return
        report(message.usage, calls, began)

    async def in_tasks(job: dict[str, Any]) -> None:
        async with anthropic.AsyncAnthropic(**chosen) as plain:
            client = aicache.wrap(plain)
            await asyncio.gather(*(aask(client, job, request) for request in job["requests"]))

    say(ready=os.getpid())
    with anthropic.Anthropic(**chosen) as plain:
        client = aicache.wrap(plain)
        for line in sys.stdin:
            job = json.loads(line)
            if job.get("tasks"):
                asyncio.run(in_tasks(job))
            else:
                threads = [threading.Thread(target=ask, args=(client, job, asked)) for asked in job["requests"]]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            say(done=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
