"""What counting costs a hit: beside one that is not counted, and while the database is away.

A process of its own, with a database: ``python -m benchmarks.counting redis://…``
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aicache.testing.valkey import Valkey
from benchmarks.figures import row, title

TIMES, ROUNDS = 200, 40
PLACES = 300


def run(server: Valkey) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.counting", server.url], check=True)


def main(url: str) -> None:
    title(f"Counting a hit, {TIMES * ROUNDS} times (promised: ratio at most 1.05)")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "counts.sqlite3"
        _set_up(url, path)
        import anthropic

        import aicache
        from aicache.ledger.counting import counts_of_its_own
        from aicache.testing import ClaudeServer
        from benchmarks.hit import QUESTION

        with ClaudeServer() as claude, anthropic.Anthropic(base_url=claude.url, api_key="k") as plain:
            client = aicache.wrap(plain)

            def hit() -> None:
                client.messages.create(**QUESTION)

            def elsewhere() -> None:
                with aicache.scope(tenant=f"tenant-{next(numbers) % PLACES}"):
                    hit()

            numbers = count()
            for _ in range(PLACES):
                elsewhere()  # each has its answer
            bare_there, counted_there = _by_turns(elsewhere, _uncounted, nullcontext)
            bare, counted = _by_turns(hit, _uncounted, nullcontext)
            path.rename(path.with_suffix(".away"))
            path.mkdir()  # no database can be opened there
            with counts_of_its_own():
                bare_then, away = _by_turns(hit, _uncounted, nullcontext)
    row("not counted (floor)", bare, unit="µs")
    row("counted", counted, bare, unit="µs")
    row(f"counted, {PLACES} tenants in turn", counted_there, bare_there, unit="µs")
    row("counted, the database is away", away, bare_then, unit="µs")


def _by_turns(
    act: Callable[[], None], *ways: Callable[[], AbstractContextManager[Any]]
) -> tuple[list[float], list[float]]:
    """Each way in turn, so that what else the machine does meets all of them."""
    took: tuple[list[float], ...] = tuple([] for _ in ways)
    act()
    for number in range(ROUNDS):
        for at in range(len(ways)):
            way = (at + number) % len(ways)
            with ways[way]():
                for _ in range(TIMES):
                    began = time.perf_counter()
                    act()
                    took[way].append(time.perf_counter() - began)
    first, second = took
    return first, second


@contextmanager
def _uncounted() -> Iterator[None]:
    from aicache.ledger import counting

    with patch.multiple(counting, began=_nothing, ended=_nothing):
        yield


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _set_up(url: str, path: Path) -> None:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="for benchmarks",
        USE_TZ=True,
        INSTALLED_APPS=["aicache"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        AICACHE={"TENANT": lambda: "tenant"},
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main(sys.argv[1])
