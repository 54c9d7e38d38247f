"""Real processes that save, and are killed in the middle of it, with ``kill -9``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aicache.freshness import databases, drain
from aicache.models import Invalidation
from tests.freshness.library.models import Article, Org, Ticket
from tests.freshness.tables import database
from tests.services import SERVICES, postgresql_database
from tests.store.servers import Server, serving

ALIAS = "crashes"
OF_ONE_SAVE = 2  # invalidations: of the row, and of whatever is made from all rows
BUDGET = 1.5  # seconds that a save takes at most while Redis is away, on a busy machine


class Saver:
    """A process that does what it is told, one thing after the other."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.saver", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, do: str, **more: Any) -> dict[str, Any]:
        """→ what it says of it; where it is to stop, that it stands there."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Place:
    """A database with an article and a ticket, a Redis, and as many processes as are asked for."""

    def __init__(self, configuration: dict[str, Any], redis: Server) -> None:
        self.redis = redis
        self.job = {"database": configuration, "redis": redis.url}
        self.processes: list[Saver] = []
        Article.objects.using(ALIAS).create(pk=1, title="old")
        Ticket.objects.using(ALIAS).create(pk=1, org=Org.objects.using(ALIAS).create(pk=1, name="acme"), text="old")
        Invalidation.objects.using(ALIAS).all().delete()

    def process(self) -> Saver:
        saver = Saver(self.job)
        self.processes.append(saver)
        assert saver.hear() == {"ready": True}
        return saver

    @property
    def pending(self) -> int:
        return drain.pending(ALIAS)

    @property
    def texts(self) -> tuple[str, str]:
        return Article.objects.using(ALIAS).get().title, Ticket.objects.using(ALIAS).get().text


@contextmanager
def on_sqlite(directory: Path) -> Iterator[dict[str, Any]]:
    yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "crashes.sqlite3")}


@contextmanager
def on_postgresql(directory: Path) -> Iterator[dict[str, Any]]:
    if trouble := SERVICES["postgresql"].trouble():
        pytest.skip(f"PostgreSQL does not answer: {trouble}")
    with postgresql_database() as configuration:
        yield configuration


@pytest.fixture(params=[on_sqlite, pytest.param(on_postgresql, marks=pytest.mark.services)])
def place(request: Any, tmp_path: Path, django_db_blocker: Any) -> Iterator[Place]:
    with ExitStack() as stack:
        configuration = stack.enter_context(request.param(tmp_path))
        stack.enter_context(django_db_blocker.unblock())
        stack.callback(databases._migrated.pop, ALIAS, None)
        stack.enter_context(database(ALIAS, **configuration))
        made = Place(configuration, stack.enter_context(serving(tmp_path / "redis")))
        yield made
        for process in made.processes:
            process.kill()


def answered(process: Saver) -> tuple[str, str]:
    told = process("ask")
    return told["status"], told["text"]


def until(told: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("model", "before", "how"),
    [
        ("article", "INSERT", "autocommit"),  # the invalidation comes first where nothing of the row must be known
        ("article", "UPDATE", "autocommit"),
        ("article", "commit", "autocommit"),
        ("article", "commit", "atomic"),
        ("ticket", "UPDATE", "autocommit"),
        ("ticket", "INSERT", "autocommit"),
        ("ticket", "INSERT", "atomic"),
        ("ticket", "commit", "autocommit"),
    ],
)
def test_of_a_save_that_is_killed_nothing_is_left(place: Place, model: str, before: str, how: str) -> None:
    saver = place.process()
    assert saver("save", model=model, text="new", how=how, stop=before) == {"at": before}
    saver.kill()
    assert place.texts == ("old", "old")
    assert not Invalidation.objects.using(ALIAS).exists()


@pytest.mark.parametrize("how", ["autocommit", "atomic", "failing hook"])
def test_what_was_committed_and_not_stamped_is_pending_and_drained(place: Place, how: str) -> None:
    reader, saver = place.process(), place.process()
    assert [answered(reader) for _ in range(2)] == [("miss", "old"), ("hit", "old")]
    assert saver("save", model="article", text="new", how=how, stop="stamp") == {"at": "stamp"}
    saver.kill()
    assert place.texts[0] == "new"
    assert place.pending == OF_ONE_SAVE
    assert place.process()("drain") == {"applied": OF_ONE_SAVE}
    assert place.pending == 0
    told = reader("ask")
    assert (told["status"], told["text"], told["reason"]) == ("miss", "new", "invalidated:library.article:1")
    assert answered(reader) == ("hit", "new")


def test_what_was_stamped_and_not_marked_is_drained_once_more_and_does_no_harm(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", stop="mark") == {"at": "mark"}
    assert [answered(reader) for _ in range(2)] == [("miss", "new"), ("hit", "new")]
    saver.kill()
    assert place.pending == OF_ONE_SAVE
    assert reader("drain") == {"applied": OF_ONE_SAVE}
    assert place.pending == 0
    assert [answered(reader) for _ in range(2)] == [("miss", "new"), ("hit", "new")]
    assert reader("drain") == {"applied": 0}


@pytest.mark.parametrize("how", ["killed", "put back", "hung"])
def test_a_save_without_redis_is_pending_until_redis_is_believed_again(place: Place, how: str) -> None:
    saver, other = place.process(), place.process()
    assert [answered(saver) for _ in range(2)] == [("miss", "old"), ("hit", "old")]
    assert answered(other) == ("hit", "old")
    if how == "put back":
        place.redis.save()
    if how == "hung":
        place.redis.hang()
    else:
        place.redis.kill()
    told = saver("save", model="article", text="new")
    assert told["failed"] == ""
    assert told["took"] < BUDGET
    assert place.pending == OF_ONE_SAVE
    assert "still pending" in place.process()("drain")["failed"]
    assert [answered(process) for process in (saver, other)] == [("degraded", "new")] * 2
    if how == "hung":
        place.redis.wake()
    else:
        place.redis.start()
    status, text = until(lambda: None if (told := answered(saver))[0] == "degraded" else told)
    assert place.pending == 0
    assert (status, text) in {("miss", "new"), ("hit", "new")}
    assert until(lambda: None if (told := answered(other))[0] == "degraded" else told)[1] == "new"
    assert answered(saver) == ("hit", "new")


def test_a_hook_of_the_site_that_fails_loses_nothing(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", how="failing hook")["failed"] == "the site's own hook"
    assert place.pending == 0
    assert answered(reader) == ("miss", "new")


def test_a_save_that_is_rolled_back_invalidates_nothing(place: Place) -> None:
    reader, saver = place.process(), place.process()
    assert answered(reader) == ("miss", "old")
    assert saver("save", model="article", text="new", how="rolled back")["failed"] == "rolled back"
    assert not Invalidation.objects.using(ALIAS).exists()
    assert answered(reader) == ("hit", "old")
