from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase
from django.utils import timezone

import aicache
from aicache import database, forks
from aicache.core.tags import EVERYBODY, Tag, members
from aicache.database import THREADS, Threads, Turn, apart, ask
from aicache.durable.trouble import Trouble
from aicache.durable.work import Work
from aicache.freshness.generations import generations
from aicache.models import InvalidationTag
from tests.freshness.library.models import Article
from tests.services import SERVICES

ALL = Tag(members("library.article"), EVERYBODY)
ROOT = Path(__file__).parent.parent
LONG = 20.0  # seconds, for what takes none


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """Of the test's own: none of them hangs, and all of them make their connections anew."""
    made = Threads(THREADS)
    monkeypatch.setattr(database, "_threads", made)
    monkeypatch.setattr(database, "_asked", {})
    return made


class Hung:
    """What threads hang in until the end of the test."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self) -> bool:
        self.begun.release()
        return self.end.wait(LONG)


@pytest.fixture
def hung() -> Iterator[Hung]:
    made = Hung()
    yield made
    made.end.set()


@pytest.fixture
def no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestApart:
    def test_runs_in_another_thread_with_connections_of_its_own_in_autocommit(self) -> None:
        def look(tag: Tag) -> Any:
            return threading.get_ident(), connection.in_atomic_block, generations([tag])

        with transaction.atomic():
            thread, atomic, found = apart(look, ALL).result(10)
        assert (thread != threading.get_ident(), atomic, found) == (True, False, (0,))

    @pytest.mark.parametrize("error", [LookupError("x"), SystemExit(1)])
    def test_raises_what_it_raises(self, error: BaseException) -> None:
        def fail() -> None:
            raise error

        with pytest.raises(type(error)):
            apart(fail).result(10)
        assert apart(lambda: 1).result(10) == 1

    def test_commits_whatever_the_site_says_of_its_own_connections(
        self, threads: Threads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
        apart(lambda: InvalidationTag.objects.create(digest="d", tag="t", seen_at=timezone.now())).result(10)
        assert apart(lambda: InvalidationTag.objects.filter(digest="d").exists()).result(10)
        assert apart(lambda: connection.get_autocommit()).result(10)

    def test_keeps_its_connection_for_as_long_as_the_site_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By default not at all."""
        monkeypatch.setattr(database, "_threads", Threads(1))

        def made() -> Any:
            connection.ensure_connection()
            return connection

        def is_open() -> bool:
            return connection.connection is not None

        apart(made).result(10)
        assert not apart(is_open).result(10)

    def test_keeps_none_to_the_database_of_a_test_run_which_is_about_to_be_dropped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "_threads", Threads(1))
        chosen = connections["default"].settings_dict
        monkeypatch.setitem(chosen, "CONN_MAX_AGE", None)

        def opened() -> bool:
            before = connection.connection is not None
            connection.ensure_connection()
            connection.is_in_memory_db = lambda: False  # type: ignore[method-assign]
            return before

        def close() -> None:
            database.leave(whole=True)

        name = str(chosen["NAME"])
        monkeypatch.setitem(chosen["TEST"], "NAME", "another")
        assert [apart(opened).result(10) for _ in range(2)] == [False, True]
        apart(close).result(10)
        for test_name, run_in in ((name, name), (name.removesuffix("default"), name)):  # as it is, and with a suffix
            monkeypatch.setitem(chosen["TEST"], "NAME", test_name)
            assert run_in.startswith(test_name)
            assert [apart(opened).result(10) for _ in range(2)] == [False, False]

    def test_without_a_thread_to_run_in_it_fails_where_the_result_is_asked_for(
        self, no_thread_left: Callable[[], None]
    ) -> None:
        no_thread_left()
        failed = apart(lambda: 1)
        with pytest.raises(RuntimeError, match="can't start"):
            failed.result(10)

    def test_without_another_thread_those_that_run_do_it(self, no_thread_left: Callable[[], None], hung: Hung) -> None:
        busy = apart(hung)
        assert hung.begun.acquire(timeout=LONG)
        no_thread_left()
        later = apart(lambda: 1)
        assert not later.done()
        hung.end.set()
        assert (busy.result(10), later.result(10)) == (True, 1)

    def test_has_a_few_threads_and_what_nobody_waits_for_any_more_is_forgotten(
        self, threads: Threads, hung: Hung
    ) -> None:
        running = [apart(hung) for _ in range(THREADS)]
        assert all(hung.begun.acquire(timeout=LONG) for _ in running)
        for _ in range(100):
            assert apart(lambda: 1).cancel()
        assert not any(future.done() for future in running)
        assert threads.count == THREADS
        assert len(threads.waiting) == 1

    def test_a_strict_task_that_is_cancelled_leaves_no_work_behind(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        settings.AICACHE = {"POLICIES": {"strict": {"consistency": "strict"}}}
        threads, free = Threads(1), threading.Event()
        monkeypatch.setattr(database, "_threads", threads)
        hangs = threads.submit(lambda: free.wait(60))

        async def call() -> None:
            with aicache.scope(tenant="acme", tags=["prices"], policy="strict"):
                await aicache.remember({"question": 1}, answer)

        async def answer() -> str:
            return "not asked for"

        async def main() -> None:
            calls = [asyncio.create_task(call()) for _ in range(20)]
            while len(threads.waiting) < 20:
                await asyncio.sleep(0)
            for one in calls:
                one.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(main())
        assert all(future.cancelled() for future, _ in threads.waiting)
        free.set()
        assert hangs.result(10)

    def test_a_strict_call_without_a_thread_goes_upstream(
        self, settings: Any, aicache_memory: Any, no_thread_left: Callable[[], None]
    ) -> None:
        settings.AICACHE = {"POLICIES": {"strict": {"consistency": "strict"}}}
        assert strict_call() == ("miss", "new")
        assert strict_call() == ("hit", "")
        database._forget_after_fork()
        no_thread_left()
        assert strict_call() == ("degraded", "database")


def strict_call() -> tuple[str, str]:
    with aicache.scope(tenant="acme", tags=["prices"], policy="strict") as calls:
        assert aicache.remember({"question": 1}, lambda: 1) == 1
    return calls.last.status, calls.last.reason or ""


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


class TestTurn:
    """Of how long a caller waits: a database that answers nothing costs one budget, one that is busy some more."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(database, "time", clock)
        return clock

    def test_where_nobody_gets_a_turn_it_is_one_budget(self, clock: Clock, threads: Threads) -> None:
        Turn(threads).begin()
        clock.now += 10
        turn = Turn[None](threads)
        assert turn.left(0.5) == 0.5
        clock.now += 0.5
        assert turn.left(0.5) == 0

    def test_while_others_get_theirs_it_is_waited_on(self, clock: Clock, threads: Threads) -> None:
        turn = Turn[None](threads)
        for _ in range(4):
            clock.now += 0.25
            Turn(threads).begin()
            assert turn.left(0.5) == 0.5
        turn.begin()
        clock.now += 0.25
        Turn(threads).begin()
        assert turn.left(0.5) == 0.25

    def test_but_not_for_ever(self, clock: Clock, threads: Threads) -> None:
        turn = Turn[None](threads)
        clock.now += 0.5 * database.LONGEST
        Turn(threads).begin()
        assert turn.left(0.5) == 0

    def test_a_long_line_is_served_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Twenty, each of which takes a fifth of a budget, and one thread."""
        monkeypatch.setattr(database, "_threads", Threads(1))
        budget = 0.5
        works = [Work(apart(time.sleep, budget / 5), Trouble("", "")) for _ in range(20)]
        for work in works:
            work.wait(budget)
        assert [work.result() for work in works] == [None] * 20


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestAsk:
    def test_says_what_the_database_says(self) -> None:
        assert ask("other", lambda alias: (alias, threading.get_ident() == threading.main_thread().ident)) == (
            "other",
            False,
        )

    def test_raises_what_it_raises(self) -> None:
        def fail(alias: str) -> None:
            raise LookupError(alias)

        with pytest.raises(LookupError, match="other"):
            ask("other", fail)

    def test_one_that_hangs_holds_one_thread_and_the_others_answer(
        self, monkeypatch: pytest.MonkeyPatch, hung: Hung
    ) -> None:
        monkeypatch.setattr(database, "PATIENCE", 0.05)
        asked: list[str] = []

        def hang(alias: str) -> None:
            asked.append(alias)
            hung()

        for _ in range(THREADS + 2):
            with pytest.raises(TimeoutError, match="does not answer"):
                ask("other", hang)
        assert asked == ["other"]
        monkeypatch.setattr(database, "PATIENCE", LONG)
        assert ask("default", lambda alias: alias) == "default"
        assert apart(lambda: 1).result(10) == 1

    def test_without_a_thread_it_says_so(self, no_thread_left: Callable[[], None]) -> None:
        no_thread_left()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start"):
                ask("other", lambda alias: alias)

    def test_no_fork_happens_meanwhile(self) -> None:
        assert ask("default", lambda alias: forks._statements) == 1
        assert apart(lambda: forks._statements).result(10) == 1

    def test_where_there_is_no_sqlite_nobody_holds_off_a_fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does no harm there, and a statement may hang."""
        postgresql = {"ENGINE": "django.db.backends.postgresql"}
        monkeypatch.setattr(database, "connections", SimpleNamespace(settings={"default": postgresql}))
        with database.unforked():
            assert forks._statements == 0

    def test_leaves_no_connection_open(self) -> None:
        seen: list[Any] = []

        def look(alias: str) -> None:
            connections[alias].ensure_connection()
            seen.append(connections[alias])

        ask("other", look)
        assert seen[0].connection is None


class TestApartInATestCase(TestCase):
    databases = frozenset({"default", "other"})

    def test_sees_what_the_test_did(self) -> None:
        Article.objects.create(title="a")
        assert apart(generations, [ALL]).result() == (1,)
        assert ask("default", lambda alias: Article.objects.using(alias).count()) == 1

    def test_raises_what_it_raises(self) -> None:
        def fail() -> None:
            raise LookupError("x")

        with pytest.raises(LookupError, match="x"):
            apart(fail).result()


SCRIPT = """
    import os, sys, threading
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="x",
        INSTALLED_APPS=["django.contrib.contenttypes", "aicache"],
        DATABASES={"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": sys.argv[1],
        }},
        AICACHE={"POLICIES": {"strict": {"consistency": "strict"}}},
    )
    django.setup()

    import aicache
    from aicache.testing.isolation import memory

    def call():
        with aicache.scope(tenant="acme", tags=["prices"], policy="strict") as calls:
            aicache.remember({"question": 1}, lambda: 1)
        print(calls.last.status, calls.last.reason, flush=True)

    with memory():
        call()
        call()
    if "fork" in sys.argv and os.fork() == 0:
        from aicache.database import apart
        print("child", apart(lambda: threading.active_count()).result(20), flush=True)
"""


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_database_that_hangs_keeps_no_process_from_its_end(how: str) -> None:
    pytest.importorskip("psycopg")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(silent.getsockname()[1]), how]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG, check=False)
    told = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert told[:2] == ["degraded database"] * 2
    assert told[2:] == (["child 2"] if how == "fork" else [])


SITE = """
    import os

    SECRET_KEY = "x"
    INSTALLED_APPS = ["django.contrib.contenttypes", "aicache"]
    DATABASES = {"default": {
        "ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": None, "OPTIONS": {"connect_timeout": 5},
        "NAME": os.environ["NAME"], "HOST": os.environ["HOST"], "PORT": os.environ["PORT"],
        "USER": os.environ["USER"], "PASSWORD": os.environ["PASSWORD"],
    }}
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    AICACHE = {"POLICIES": {"strict": {"consistency": "strict"}}}
"""
TESTS = """
    import aicache
    from django.test import TransactionTestCase
    from aicache.testing.isolation import CacheTestMixin

    class StrictTest(CacheTestMixin, TransactionTestCase):
        cache_in_memory = True

        def test_it(self):
            with aicache.scope(tenant="acme", tags=["prices"], policy="strict") as calls:
                for _ in range(2):
                    aicache.remember({"question": 1}, lambda: 1)
            assert [call.status for call in calls] == ["miss", "hit"]
"""


@pytest.mark.services
def test_a_sites_tests_with_connections_that_are_kept_can_drop_their_database(tmp_path: Path) -> None:
    if trouble := SERVICES["postgresql"].trouble():
        pytest.skip(f"PostgreSQL does not answer: {trouble}")
    address = urlsplit(SERVICES["postgresql"].url)
    (tmp_path / "site_settings.py").write_text(textwrap.dedent(SITE))
    (tmp_path / "test_site.py").write_text(textwrap.dedent(TESTS))
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "NAME": f"aicache_{uuid.uuid4().hex}",
        "HOST": address.hostname or "127.0.0.1",
        "PORT": str(address.port or 5432),
        "USER": unquote(address.username or ""),
        "PASSWORD": unquote(address.password or ""),
    }
    command = [sys.executable, "-m", "django", "test", "--noinput"]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "OK" in ran.stderr
