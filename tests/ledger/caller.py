"""A process that calls as it is told, a JSON line each, and says what became of its calls.

python -m tests.ledger.caller '{"database": {"ENGINE": "…", …}, "redis": "redis://…", "claude": "http://…"}'
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from django.conf import settings

import tests.settings

TENANTS = ("acme", "globex", "initech")


def set_up(job: dict[str, Any]) -> None:
    import django

    own = {name: value for name, value in vars(tests.settings).items() if name.isupper()}
    own["INSTALLED_APPS"] = ["aicache"]  # it starts sooner without the others
    own["DATABASES"] = {"default": job["database"]}
    own["CACHES"] = {"default": {**own["CACHES"]["default"], "LOCATION": job["redis"]}}
    own["AICACHE"] = {"NAMESPACE": job["namespace"], **job.get("aicache", {})}
    settings.configure(**own)
    django.setup()
    from aicache.ledger import flusher

    flusher.AT_EXIT = 30.0  # type: ignore[misc]  # the machine is busy
    if "since" in job:
        hurry(job["since"], job["times"])


def hurry(since: float, times: float) -> None:
    """Here it is ``since`` now, and the time passes so many times as fast: a minute is soon long past."""
    from aicache.ledger import counts, hotspots

    began = time.time()
    clock: Any = SimpleNamespace(
        time=lambda: since + (time.time() - began) * times, monotonic=time.monotonic, thread_time=time.thread_time
    )
    counts.time = hotspots.time = clock  # type: ignore[attr-defined]


_saying = threading.Lock()


def say(**told: Any) -> None:
    with _saying:
        print(json.dumps(told), flush=True)


class Caller:
    """``tell``: whether each call's status is said as soon as it has ended."""

    def __init__(self, url: str) -> None:
        import anthropic

        self.options = {"base_url": url, "api_key": "k", "max_retries": 2}
        self.plain = anthropic.Anthropic(**self.options)
        self.seen: Counter[str] = Counter()
        self.tell = False

    @property
    def client(self) -> Any:
        import aicache

        return aicache.wrap(self.plain)

    @contextmanager
    def noted(self, **scope: Any) -> Iterator[None]:
        """Errors are an answer too."""
        import anthropic

        import aicache

        with aicache.scope(**scope) as calls:
            with suppress(anthropic.APIError, ZeroDivisionError):
                yield
        for call in calls:
            with _saying:
                self.seen[call.status] += 1
            if self.tell:
                say(status=call.status)

    def asked(self, text: str, **more: Any) -> dict[str, Any]:
        question = {"model": "claude-sonnet-5", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        return {**question, **more}

    def remembered(self, fails: bool) -> Any:
        """Asks the same server, past the cache, so that it counts this too."""
        self.plain.with_options(max_retries=0).messages.create(**self.asked("remember"))
        return 1 / 0 if fails else [0.5]

    def one(self, client: Any, dice: random.Random, tenant: str) -> None:
        """Some call."""
        import aicache

        new = str(dice.random())
        match dice.choice(["hit", "hit", "same", "same", "new", "bypass", "unscoped", "stream", "fails", "remember"]):
            case "hit":
                with self.noted(tenant=tenant):
                    client.messages.create(**self.asked(f"known {dice.randrange(3)}"))
            case "same":
                with self.noted(tenant=tenant, policy="retry"):
                    client.messages.create(**self.asked(f"slowly {dice.randrange(20)}"))
            case "new":
                with self.noted(tenant=tenant):
                    client.messages.create(**self.asked(new))
            case "bypass":
                with self.noted(tenant=tenant, bypass=True):
                    client.messages.create(**self.asked("bypass"))
            case "unscoped":
                with self.noted():
                    client.messages.create(**self.asked("unscoped"))
            case "stream":
                with self.noted(tenant=tenant):
                    for _ in client.messages.create(**self.asked("stream"), stream=True):
                        pass
            case "fails":
                with self.noted(tenant=tenant):
                    client.messages.create(**self.asked(f"fails {dice.randrange(4)} {new}"))
            case "remember":
                request, fails = {"n": dice.randrange(30)}, not dice.randrange(4)
                with self.noted(tenant=tenant):
                    aicache.remember(request, lambda: self.remembered(fails))

    async def aone(self, client: Any, dice: random.Random, tenant: str) -> None:
        with self.noted(tenant=tenant):
            await client.messages.create(**self.asked(f"known {dice.randrange(5)}"))
        with self.noted(tenant=tenant):
            await client.messages.create(**self.asked(f"fails {dice.randrange(3)} {dice.random()}"))


def mixed(caller: Caller, threads: int, each: int, seed: int = 0, tell: bool = False) -> None:
    caller.tell = tell
    client = caller.client

    def run(number: int) -> None:
        dice = random.Random(f"{seed} {number}")
        for _ in range(each):
            caller.one(client, dice, TENANTS[number % len(TENANTS)])

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def tasks(caller: Caller, many: int, each: int) -> None:
    import anthropic

    import aicache

    async def run(client: Any, number: int) -> None:
        for _ in range(each):
            await caller.aone(client, random.Random(f"{number}"), TENANTS[number % len(TENANTS)])

    async def running() -> None:
        async with anthropic.AsyncAnthropic(**caller.options) as plain:
            client = aicache.wrap(plain)
            await asyncio.gather(*(run(client, number) for number in range(many)))

    asyncio.run(running())


def ask(caller: Caller, text: str, tenant: str = "acme") -> None:
    with caller.noted(tenant=tenant):
        caller.client.messages.create(**caller.asked(text))


def stats() -> dict[str, Any]:
    from django.core.management import call_command

    out = io.StringIO()
    call_command("cache_stats", "--json", stdout=out)
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


def in_child(job: dict[str, Any], text: str) -> None:
    """What a process of ``multiprocessing`` does. A spawned one knows nothing yet."""
    if not settings.configured:
        set_up(job)
    ask(Caller(job["claude"]), text)


def fork(caller: Caller, job: dict[str, Any], how: str, text: str) -> None:
    """Has another process ask, and waits for its end."""
    if how != "fork":
        child = multiprocessing.get_context(how.removeprefix("multiprocessing "))
        process = child.Process(target=in_child, args=(job, text))
        process.start()
        process.join()
        return
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    ask(caller, text)
    sys.exit()


def main(job: dict[str, Any]) -> None:
    set_up(job)
    caller = Caller(job["claude"])
    say(ready=os.getpid())
    for line in sys.stdin:
        told = json.loads(line)
        match told.pop("do"):
            case "mixed":
                mixed(caller, **told)
            case "tasks":
                tasks(caller, **told)
            case "ask":
                ask(caller, **told)
            case "fork":
                fork(caller, job, **told)
            case "stats":
                say(stats=stats())
                continue
            case "end at SIGTERM":
                signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            case "end at once":
                os._exit(0)
        say(done=dict(caller.seen))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
