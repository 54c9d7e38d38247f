"""The second lane: what a source is, is asked apart from a caller's connection that is lost, aborted or waits."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, ProgrammingError, connections, transaction

import aicache
from aicache import database
from tests.freshness.library.models import Article, Folder, Note, Org, Team
from tests.freshness.test_postgresql import ALIAS, postgresql

__all__ = ["postgresql"]

pytestmark = [pytest.mark.services, pytest.mark.timeout(90), pytest.mark.usefixtures("postgresql", "aicache_memory")]


def ask(source: Any) -> tuple[str, str]:
    with aicache.scope(tenant="1", sources=[source]) as calls:
        assert aicache.remember({"question": 1}, lambda: "an answer") == "an answer"
    assert calls.last is not None
    return calls.last.status, calls.last.reason


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this test alone: another one's know another database by the same alias."""
    monkeypatch.setattr(database, "_threads", database.Threads(2))


@pytest.fixture(params=["deferred", "a tenant's path"])
def source(request: pytest.FixtureRequest, postgresql: Any) -> Any:
    if request.param == "deferred":
        Article.objects.using(ALIAS).create(title="a")
        return Article.objects.using(ALIAS).only("title").get()
    org = Org.objects.using(ALIAS).create(pk=1, name="a")
    Note.objects.using(ALIAS).create(team=Team.objects.using(ALIAS).create(org=org), text="a")
    return Note.objects.using(ALIAS).get()


def test_a_connection_that_is_lost_is_not_the_calls(source: Any, postgresql: Any) -> None:
    other = connections.create_connection(ALIAS)
    with other.cursor() as cursor, postgresql.cursor() as own:
        own.execute("SELECT pg_backend_pid()")
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", own.fetchone())
    other.close()

    assert ask(source) == ("miss", "new")
    with pytest.raises(DatabaseError):
        Article.objects.using(ALIAS).count()


def test_a_transaction_that_is_aborted_is_not_the_calls(source: Any) -> None:
    with transaction.atomic(ALIAS):
        with connections[ALIAS].cursor() as cursor, pytest.raises(ProgrammingError):
            cursor.execute("SELECT nothing")
        assert ask(source) == ("miss", "new")
        transaction.set_rollback(True, ALIAS)


def test_a_row_that_is_locked_ends_no_transaction(source: Any) -> None:
    other = connections.create_connection(ALIAS)
    with transaction.atomic(ALIAS):
        Folder.objects.using(ALIAS).create(name="b")
        other.set_autocommit(False)
        try:
            with other.cursor() as cursor:
                cursor.execute("LOCK TABLE library_article, library_team IN ACCESS EXCLUSIVE MODE")
            assert ask(source) == ("degraded", "database")
        finally:
            other.rollback()
            other.close()
        Folder.objects.using(ALIAS).create(name="b")
    assert Folder.objects.using(ALIAS).count() == 2


def test_where_none_can_be_had_the_call_goes_to_upstream(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections[ALIAS].settings_dict, "PORT", 1)  # of connections that are yet to be made
    monkeypatch.setitem(connections.databases[ALIAS], "PORT", 1)
    assert ask(source) == ("degraded", "database")
    assert Article.objects.using(ALIAS).count() >= 0
