"""The second lane: rows that are locked, transactions that an error ends, and many savers at once."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test.utils import CaptureQueriesContext

from aicache.freshness import databases, drain
from aicache.freshness.generations import generations
from aicache.freshness.outbox import uncommitted
from aicache.invalidation import invalidate
from aicache.models import Invalidation
from tests.freshness.library.models import Article, ByUuid, Contract, Document, Loose, Memo, Note, Org, Team, Ticket
from tests.freshness.recorder import Recorder, tags
from tests.freshness.tables import database, in_a_thread
from tests.freshness.test_saves import MARKED, OUTBOX, queries
from tests.services import SERVICES, postgresql_database

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]

ALIAS = "postgresql"
SAVERS = 50


@pytest.fixture
def postgresql(django_db_blocker: Any) -> Iterator[Any]:
    """A database of the test's own, dropped afterwards."""
    if trouble := SERVICES["postgresql"].trouble():
        pytest.skip(f"PostgreSQL does not answer: {trouble}")
    with postgresql_database() as configuration:
        try:
            with django_db_blocker.unblock(), database(ALIAS, OPTIONS={}, **configuration) as connection:
                yield connection
        finally:
            databases._migrated.pop(ALIAS, None)


def test_row_and_invalidation_are_one_transaction(postgresql: Any, store: Recorder) -> None:
    org = Org.objects.using(ALIAS).create(name="a")
    article = Article.objects.using(ALIAS).create(title="a")
    ticket = Ticket.objects.using(ALIAS).create(org=org)
    store.stamped.clear()
    with CaptureQueriesContext(postgresql) as captured:
        article.save()
    assert queries(captured) == ["BEGIN", OUTBOX, "UPDATE library_article", "COMMIT", MARKED]
    with CaptureQueriesContext(postgresql) as captured:
        ticket.save()
    assert queries(captured) == ["BEGIN", "SELECT", "UPDATE library_ticket", OUTBOX, "COMMIT", MARKED]
    assert "FOR NO KEY UPDATE" in captured[1]["sql"]
    assert store.tags >= tags("library.article:*") | tags("library.ticket:*", tenant=org.pk)
    assert drain.pending(ALIAS) == 0


def test_an_error_ends_the_transaction_as_without_us(postgresql: Any, store: Recorder) -> None:
    ByUuid(pk=uuid.UUID(int=1), text="a").save(using=ALIAS, force_insert=True)
    store.stamped.clear()
    with transaction.atomic(ALIAS):
        with pytest.raises(IntegrityError), transaction.atomic(ALIAS):
            ByUuid(pk=uuid.UUID(int=1), text="b").save(using=ALIAS, force_insert=True)
        assert uncommitted(list(tags("library.byuuid:*"))) is None
        Article.objects.using(ALIAS).create(title="a")
    with pytest.raises(IntegrityError):
        ByUuid(pk=uuid.UUID(int=1), text="b").save(using=ALIAS, force_insert=True)
    assert "library.byuuid:*" not in {tag.name for tag in store.tags}
    assert drain.pending(ALIAS) == 0


def test_who_saves_a_row_that_another_moves_ends_the_answers_of_where_it_came_to(
    postgresql: Any, store: Recorder
) -> None:
    here, there, last = (Org.objects.using(ALIAS).create(name=name) for name in "abc")
    ticket = Ticket.objects.using(ALIAS).create(org=here)

    def save() -> None:
        mine = Ticket.objects.using(ALIAS).get()
        mine.org = last
        mine.save()

    with transaction.atomic(ALIAS):
        ticket.org = there
        ticket.save()
        wait = in_a_thread(ALIAS, save)
        wait(0.5)
        store.stamped.clear()
    wait()
    names = f"library.ticket:{ticket.pk}", "library.ticket:*", "queue:first"
    moved = tags(*names, tenant=here.pk) | tags(*names, tenant=there.pk)
    assert store.stamped[0] != store.stamped[1]
    assert set(store.stamped[0]) | set(store.stamped[1]) == moved | tags(*names, tenant=last.pk)
    assert tags(*names, tenant=there.pk) <= set(store.stamped[0]) & set(store.stamped[1])


def test_a_row_may_be_referred_to_while_it_is_being_saved(postgresql: Any) -> None:
    org = Org.objects.using(ALIAS).create(name="a")
    contract = Contract.objects.using(ALIAS).create(org=org)
    memo = Memo.objects.using(ALIAS).create(owner="a", text="a")
    with transaction.atomic(ALIAS):
        contract.save()
        memo.save()
        Document.objects.using(ALIAS).get().save()
        in_a_thread(ALIAS, lambda: Ticket.objects.using(ALIAS).create(org=org))()


def test_two_who_compact_at_once_count_each_row_once(postgresql: Any) -> None:
    article = Article.objects.using(ALIAS).create(title="a")
    for _ in range(200):
        article.save()
    (tag,) = tags("library.article:*")

    def generation() -> int:
        (counted,) = generations([tag], among=[ALIAS])
        return counted

    before = generation()
    waits = [in_a_thread(ALIAS, lambda: drain.compact(timedelta(0), ALIAS)) for _ in range(4)]
    for wait in waits:
        wait()
    assert generation() == before == 201
    assert not Invalidation.objects.using(ALIAS).exists()


def test_names_that_postgresql_would_refuse(postgresql: Any, store: Recorder) -> None:
    invalidate("a\0b", "ü" * 100, tenant="t\0" * 200, using=ALIAS)
    assert store.tags == tags("a\0b", "ü" * 100, tenant="t\0" * 200)
    assert drain.pending(ALIAS) == 0


class TestManySavers:
    """The outbox is only ever added to: nobody waits for it."""

    def _run(self, postgresql: Any, save: Callable[[int], None]) -> tuple[int, Counter[str], float]:
        """→ deadlocks, what savers were seen to wait for, and how long it took."""
        before = self._deadlocks(postgresql)
        began = time.monotonic()
        waits = [in_a_thread(ALIAS, lambda number=number: save(number)) for number in range(SAVERS)]  # type: ignore[misc]
        seen: Counter[str] = Counter()
        with postgresql.cursor() as cursor:
            while any(wait(0.0) for wait in waits):
                cursor.execute(
                    "SELECT a.wait_event, coalesce(c.relname, '') FROM pg_stat_activity a LEFT JOIN pg_locks l"
                    " ON l.pid = a.pid AND NOT l.granted LEFT JOIN pg_class c ON c.oid = l.relation"
                    " WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'"
                )
                seen.update(f"{event} {table}" for event, table in cursor.fetchall())
                time.sleep(0.002)
        return self._deadlocks(postgresql) - before, seen, time.monotonic() - began

    def _deadlocks(self, postgresql: Any) -> int:
        with postgresql.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    def test_of_one_model_do_not_wait_for_each_other(self, postgresql: Any, registered: Any) -> None:
        rows = [Loose.objects.using(ALIAS).create(text="a") for _ in range(SAVERS)]
        team = Team.objects.using(ALIAS).create(org=Org.objects.using(ALIAS).create(name="a"))
        notes = [Note.objects.using(ALIAS).create(team=team, text="a") for _ in range(SAVERS)]

        def save(number: int) -> None:
            for _ in range(5):
                rows[number].save()
                with transaction.atomic(ALIAS):
                    rows[number].save()
                    Loose.objects.using(ALIAS).create(text="b")

        def save_a_note(number: int) -> None:
            for _ in range(5):
                notes[number].save()

        unregistered = self._run(postgresql, save)
        registered(Loose)
        registered_too = self._run(postgresql, save)
        with_a_tenant = self._run(postgresql, save_a_note)
        print(unregistered, registered_too, with_a_tenant)
        assert [ran[0] for ran in (unregistered, registered_too, with_a_tenant)] == [0, 0, 0]
        for ran in (registered_too, with_a_tenant):
            assert {wait for wait in ran[1] if not wait.startswith("extend")} <= set(unregistered[1])
        assert drain.pending(ALIAS) == 0

    def test_of_the_same_rows_in_turn_are_no_deadlock_that_was_not_there_before(self, postgresql: Any) -> None:
        """All wait for the row, in the order in which they came, as without us."""
        org = Org.objects.using(ALIAS).create(name="a")
        Ticket.objects.using(ALIAS).create(org=org)

        def save(number: int) -> None:
            ticket = Ticket.objects.using(ALIAS).get()
            for _ in range(5):
                ticket.save()

        deadlocks, _, _ = self._run(postgresql, save)
        assert deadlocks == 0
        assert drain.pending(ALIAS) == 0
