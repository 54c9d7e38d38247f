"""Beside a site's own transactions on SQLite nothing is written that could fail one of them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction

from aicache import forks
from aicache.sqlite import Disturbed, is_open_here, write
from tests.freshness.tables import database

ALIAS = "beside"


@pytest.fixture(params=["delete", "wal"])
def table(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    # As a site has it that says nothing: then nothing of the file has been read when a connection is made.
    options = {"init_command": "PRAGMA journal_mode=wal;"} if request.param == "wal" else {}
    name = str(tmp_path / "beside.sqlite3")
    configuration = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
    with django_db_blocker.unblock(), database(ALIAS, **configuration):
        execute("CREATE TABLE site (number INTEGER)")
        execute("CREATE TABLE ours (number INTEGER)")
        execute("INSERT INTO site VALUES (0)")
        yield


def execute(sql: str) -> Any:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


def ours() -> None:
    execute("INSERT INTO ours VALUES (1)")


def apart(act: Callable[[], Any]) -> Any:
    """In a thread with a connection of its own. → what it returns or raises."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(act())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)
        finally:
            connections[ALIAS].close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return found[0]


@pytest.mark.usefixtures("table")
def test_outside_of_any_transaction_it_is_written() -> None:
    assert apart(lambda: write(ALIAS, ours)) is None
    assert execute("SELECT count(*) FROM ours") == [(1,)]


@pytest.mark.usefixtures("table")
def test_a_transaction_that_reads_and_then_writes_does_not_fail() -> None:
    with transaction.atomic(using=ALIAS):
        assert execute("SELECT number FROM site") == [(0,)]
        assert isinstance(apart(lambda: write(ALIAS, ours, 0.05)), Disturbed)
        execute("UPDATE site SET number = 1")
    assert apart(lambda: write(ALIAS, ours)) is None
    assert execute("SELECT number, (SELECT count(*) FROM ours) FROM site") == [(1, 1)]


@pytest.mark.usefixtures("table")
def test_it_would_fail_without_that() -> None:
    """What this is all about: as SQLite does it, and whatever its timeout."""
    begun, release = threading.Event(), threading.Event()

    def holding() -> None:
        with transaction.atomic(using=ALIAS):
            ours()
            begun.set()
            assert release.wait(20)

    def reading_and_writing() -> None:
        with transaction.atomic(using=ALIAS):
            execute("SELECT number FROM site")
            holder.start()
            assert begun.wait(20)
            execute("UPDATE site SET number = 1")

    holder = threading.Thread(target=lambda: apart(holding))
    with pytest.raises(OperationalError, match="locked"):
        reading_and_writing()
    release.set()
    holder.join(20)


@pytest.mark.usefixtures("table")
def test_transactions_by_hand_count_too() -> None:
    connection = connections[ALIAS]
    connection.set_autocommit(False)
    try:
        assert apart(lambda: write(ALIAS, ours)) is None  # none is open yet
        execute("UPDATE site SET number = 1")
        assert isinstance(apart(lambda: write(ALIAS, ours, 0.05)), Disturbed)
        assert is_open_here(ALIAS)
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    assert not is_open_here(ALIAS)


@pytest.mark.usefixtures("table")
def test_another_process_that_holds_the_whole_file_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the site itself would wait."""
    monkeypatch.setitem(connections[ALIAS].settings_dict["OPTIONS"], "timeout", 0.01)
    with closing(sqlite3.connect(connections[ALIAS].settings_dict["NAME"], check_same_thread=False)) as other:
        freeing = threading.Timer(0.2, other.rollback)

        def writing() -> None:
            connections[ALIAS].ensure_connection()
            other.execute("BEGIN EXCLUSIVE")
            freeing.start()
            write(ALIAS, ours, 20)

        assert apart(writing) is None
        freeing.join()
    assert execute("SELECT count(*) FROM ours") == [(1,)]


@pytest.mark.usefixtures("table")
def test_in_a_transaction_of_the_callers_own_it_is_part_of_it() -> None:
    before = execute("PRAGMA busy_timeout")
    with transaction.atomic(using=ALIAS):
        write(ALIAS, ours)
        transaction.set_rollback(True, using=ALIAS)
    assert execute("SELECT count(*) FROM ours") == [(0,)]
    assert execute("PRAGMA busy_timeout") == before


@pytest.mark.usefixtures("table")
def test_no_fork_happens_meanwhile() -> None:
    """Nor between two statements: who reads holds a lock until all rows are there."""
    seen: list[int] = []
    apart(lambda: write(ALIAS, lambda: seen.append(forks._statements)))
    assert seen == [1]


@pytest.mark.usefixtures("table")
def test_who_reads_disturbs_nobody_and_is_not_refused() -> None:
    def reading() -> Any:
        return write(ALIAS, lambda: execute("SELECT count(*) FROM ours"), 0)

    with transaction.atomic(using=ALIAS):
        assert apart(reading) == [(0,)]


@pytest.mark.usefixtures("table")
def test_a_moment_is_waited_for() -> None:
    results: list[Any] = []
    with transaction.atomic(using=ALIAS):
        execute("SELECT number FROM site")
        thread = threading.Thread(target=lambda: results.append(apart(lambda: write(ALIAS, ours, 20))))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        execute("UPDATE site SET number = 2")
    thread.join(20)
    assert results == [None]


@pytest.mark.usefixtures("table")
def test_an_error_of_the_statement_is_raised() -> None:
    error = apart(lambda: write(ALIAS, lambda: execute("INSERT INTO nowhere VALUES (1)"), 0.05))
    assert isinstance(error, OperationalError)
    assert "no such table" in str(error)


@pytest.mark.usefixtures("table")
def test_the_connection_is_left_as_it_was() -> None:
    def settings() -> list[Any]:
        return [execute(f"PRAGMA {name}") for name in ("busy_timeout", "synchronous")]

    before = settings()
    write(ALIAS, ours)
    assert isinstance(apart(lambda: write(ALIAS, lambda: execute("INSERT INTO nowhere VALUES (1)"), 0)), Exception)
    assert settings() == before
