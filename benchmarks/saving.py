"""What ``article.save()`` takes, end to end: where one answer hangs on the article, and where 100,000 do.

A process of its own, with a database: ``python -m benchmarks.saving redis://…``
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title

MANY, BATCH, TIMES, SAMPLE = 100_000, 500, 300, 300
TENANT = "acme"


def run(server: Valkey) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.saving", server.url], check=True)


def main(url: str) -> None:
    title(f"article.save(), {TIMES} times: one answer hangs on it, and {MANY:,} do (promised: ratio about 1)")
    with tempfile.TemporaryDirectory() as directory:
        article_model = _set_up(url, Path(directory))
        few, many, plain = (article_model.objects.create(pk=pk) for pk in (1, 2, 3))
        plain.save()
        _fill(few, 1)
        _fill(many, MANY)
        sample = range(0, MANY, MANY // SAMPLE)
        before = Counter(_asked(many, number) for number in sample)
        began = time.perf_counter()
        many.save()
        first = time.perf_counter() - began
        after = Counter(_asked(many, number) for number in sample)
        assert set(before) == {"hit"}, before
        assert set(after) == {"miss"}, after
        took: dict[int, list[float]] = {1: [], 2: [], 3: []}
        for _ in range(TIMES):
            for article in (plain, few, many):
                began = time.perf_counter()
                article.save()
                took[article.pk].append(time.perf_counter() - began)
        row("none hangs on it", took[3])
        row("one answer hangs on it", took[1], took[3])
        row(f"{MANY:,} answers hang on it", took[2], took[1])
        print(f"  the save that {MANY:,} living ones died of took {first * 1e3:.1f} ms")
        print(f"  of {before.total()} that were hits before it, {after['hit']} were served after it")
        _window(url, few)


def _window(url: str, article: Any) -> None:
    """From the end of COMMIT to the new stamps: for as long another process may serve the old answer."""
    from django.db import connection

    from aicache.signals import tag_invalidated

    title(f"Between commit and stamps, {TIMES} times")
    committed: list[float] = []
    windows: list[float] = []
    commit = connection._commit

    def committing() -> None:
        commit()
        committed.append(time.perf_counter())

    def stamped(**_: Any) -> None:
        windows.append(time.perf_counter() - committed[-1])

    connection._commit = committing
    tag_invalidated.connect(stamped)
    floor: list[float] = []
    with redis.Redis.from_url(url) as server:
        for _ in range(TIMES):
            article.save()
            began = time.perf_counter()
            server.set("floor", "x")
            floor.append(time.perf_counter() - began)
    row("one SET (floor)", floor, unit="µs")
    row("the window", windows, floor, unit="µs")


def _set_up(url: str, directory: Path) -> Any:
    import django
    from django.conf import settings

    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["aicache"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": directory / "saving.sqlite3"}},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connection, models

    import aicache

    @aicache.register
    class Article(models.Model):
        class Meta:
            app_label = "benchmarks"

        def __str__(self) -> str:
            return str(self.pk)

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Article)
    return Article


def _scope(article: Any) -> Any:
    import aicache

    return aicache.scope(tenant=TENANT, tags=[f"benchmarks.article:{article.pk}"])


def _asked(article: Any, number: int) -> str:
    import aicache

    with _scope(article) as calls:
        aicache.remember({"number": number}, lambda: number)
    assert calls.last is not None
    return calls.last.status


def _fill(article: Any, number: int) -> None:
    """Keeps as many answers as ``remember`` would one by one; then the first of them is asked for."""
    from aicache.cache import get_cache
    from aicache.core.operations import Capture
    from aicache.core.records import Answer, Entry
    from aicache.memo import _asked as asked
    from aicache.store.keys import Keys
    from aicache.store.payload import pack_entry
    from aicache.store.scripts import HANG, Plan
    from aicache.store.tags import hang

    store = get_cache().store

    def made(numbers: range) -> list[tuple[Any, Entry]]:
        with _scope(article):
            asks = [asked({"number": at}).ask for at in numbers]
        stamps, now = store.perform(Capture(asks[0])), time.time()
        answers = [Answer(str(at).encode()) for at in numbers]
        entries = [
            Entry(ask.key, ask.tenant, answer, now, now + 3600, now + 3600, stamps)
            for ask, answer in zip(asks, answers, strict=True)
        ]
        return list(zip(asks, entries, strict=True))

    def known(keys: Keys, _: bool) -> Plan:
        yield ("PING",)
        return keys

    keys = store.connections.run(known)
    with redis.Redis.from_url(store.connections.address.urls[0]) as server:  # in batches that no caller would wait for
        server.script_load(HANG.text)
        for at in range(0, number, BATCH):
            progress(f"{at:,} of {number:,}")
            pipeline = server.pipeline(transaction=False)
            for ask, entry in made(range(at, min(at + BATCH, number))):
                pipeline.execute_command("SET", keys.entry(ask), pack_entry(entry), "EX", 3600)
                for command in next(hang(keys, ask, entry)):
                    pipeline.execute_command(*command)
            pipeline.execute()
    progress("\r")
    assert _asked(article, 0) == "hit"


if __name__ == "__main__":
    main(sys.argv[1])
