"""SQLite as a file: two connections, and a saver that must not be told at once that the database is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models.signals import pre_save

from aicache.models import Invalidation
from tests.freshness.library.models import Article, Book, Careful, Chapter, Contract, Memo, Org, Page, Ticket, Topic
from tests.freshness.tables import database, in_a_thread

ALIAS = "file"


class ReadsHere:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS


@pytest.fixture
def file(tmp_path: Path, settings: Any, django_db_blocker: Any) -> Iterator[Any]:
    """Its journal lets others read while one writes. What reads of itself reads there too."""
    settings.DATABASE_ROUTERS = [ReadsHere()]
    options = {"timeout": 5, "init_command": "PRAGMA journal_mode=WAL"}
    with django_db_blocker.unblock(), database(ALIAS, NAME=str(tmp_path / "db.sqlite3"), OPTIONS=options) as connection:
        yield connection


def change(what: str) -> Any:
    """A saver's change, for which something is read: by Django, by a field, or by us."""
    org = Org.objects.using(ALIAS).create(name="a")
    article = Article.objects.using(ALIAS).create(title="a")
    topic = Topic.objects.using(ALIAS).create(name="a")
    article.topics.add(topic)
    memo = Memo.objects.using(ALIAS).create(owner="a", text="a")
    ticket = Ticket.objects.using(ALIAS).create(org=org)
    contract = Contract.objects.using(ALIAS).create(org=org)
    careful = Careful.objects.using(ALIAS).create(text="a")
    book = Book.objects.using(ALIAS).create(title="a")
    memo.text = "b"
    return {
        "a simple row": lambda: article.save(using=ALIAS),
        "a tenant's row": lambda: ticket.save(using=ALIAS),
        "an heir's row": lambda: contract.save(using=ALIAS),
        "a row that may be unchanged": lambda: memo.save(using=ALIAS),
        "select_on_save": lambda: careful.save(using=ALIAS),
        "order_with_respect_to": lambda: Chapter.objects.using(ALIAS).create(book=book),
        "a field that reads": lambda: Page.objects.using(ALIAS).create(),
        "a row to delete": lambda: ticket.delete(using=ALIAS),
        "a relation to clear": lambda: article.topics.clear(),
    }[what]


@pytest.mark.parametrize(
    "what",
    [
        "a simple row",
        "a tenant's row",
        "an heir's row",
        "a row that may be unchanged",
        "select_on_save",
        "order_with_respect_to",
        "a field that reads",
        "a row to delete",
        "a relation to clear",
    ],
)
def test_it_waits_for_another_writer_instead_of_failing(file: Any, what: str) -> None:
    """Another one writes between whatever is read and whatever is written: a transaction that read first fails."""
    save = change(what)
    interfered = []

    def interfere(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and file.in_atomic_block and not interfered:
            interfered.append(sql)
            writer = in_a_thread(ALIAS, lambda: Topic.objects.using(ALIAS).create(name="b"))
            writer(0.3)  # where the transaction began with a write, it waits for us
            writers.append(writer)
        return result

    writers: list[Callable[..., bool]] = []
    with file.execute_wrapper(interfere):
        save()
    for wait in writers:
        wait()
    assert Topic.objects.using(ALIAS).count() == 1 + len(writers)
    assert not Invalidation.objects.using(ALIAS).filter(applied_at=None).exists()


def test_a_receiver_of_pre_save_that_reads_does_not_lock_the_saver_out(file: Any) -> None:
    article = Article.objects.using(ALIAS).create(title="a")

    def read(**given: Any) -> None:
        assert Article.objects.using(ALIAS).count() == 1
        in_a_thread(ALIAS, lambda: Topic.objects.using(ALIAS).create(name="b"))()

    pre_save.connect(read, sender=Article)
    try:
        article.save(using=ALIAS)
    finally:
        pre_save.disconnect(read, sender=Article)
    assert Topic.objects.using(ALIAS).count() == 1


def test_savers_of_many_threads_all_come_through(file: Any, store: Any) -> None:
    def save() -> None:
        for number in range(10):
            Article.objects.using(ALIAS).create(title=str(number))

    for wait in [in_a_thread(ALIAS, save) for _ in range(4)]:
        wait()
    assert Article.objects.using(ALIAS).count() == 40
    assert len(store.stamped) == 40
