"""What was asked and answered is read by those alone who have the right to that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from aicache.models import CacheEntry, IdempotencyKey
from tests.admin.conftest import Staff
from tests.admin.kept import kept, message, pinned, question
from tests.admin.pages import ENTRIES, FORGET, KEYS, PURGE_ENTRIES, RIGHT, WRONG, rows, text

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

RIGHTS = (
    "view_cacheentry",
    "view_idempotencykey",
    "view_invalidation",
    "view_invalidationtag",
    "purge_entry",
    "purge_tag",
    "forget_key",
    "mark_wrong",
)
SECRET = "zebra"


@pytest.fixture
def blind(staff: Staff) -> Client:
    """May do everything but read."""
    return staff(*RIGHTS)


def secrets() -> tuple[CacheEntry, IdempotencyKey]:
    """Of which the one word is in all that was asked and answered."""
    thought = {"type": "thinking", "thinking": f"{SECRET} thoughts", "signature": SECRET}
    tool = {"type": "tool_use", "id": "toolu_1", "name": f"{SECRET}_tool", "input": {SECRET: SECRET}}
    answer = message(
        f"{SECRET} answer", thought, tool, {"type": SECRET}, usage={SECRET: SECRET}, id=SECRET, stop_reason=SECRET
    )
    asked = question(f"{SECRET} question", system=SECRET, tools=[{"name": SECRET}])
    return kept(answer, "prices", request=asked, hits=7), pinned("order-1", answer)


def pages(entry: CacheEntry, key: IdempotencyKey) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "get", ENTRIES, {}
    yield "get", ENTRIES, {"q": "sonnet"}
    yield "get", ENTRIES, {"o": "1.-2"}
    yield "get", f"{ENTRIES}{entry.pk}/change/", {}
    yield "get", f"{ENTRIES}{entry.pk}/history/", {}
    for address, verb in ((PURGE_ENTRIES, "purge"), (WRONG, "wrong"), (RIGHT, "right")):
        yield "get", address, {"id": entry.pk}
        yield "post", ENTRIES, {"action": verb, "_selected_action": entry.pk}
    yield "get", KEYS, {}
    yield "get", f"{KEYS}{key.pk}/change/", {}
    yield "get", FORGET, {"id": key.pk}
    yield "post", KEYS, {"action": "forget", "_selected_action": key.pk}


def test_without_the_right_no_page_has_a_word_of_it(blind: Client, staff: Staff) -> None:
    found = secrets()
    reads = staff(*RIGHTS, "view_content")
    seen = 0
    for method, address, given in pages(*found):
        page = getattr(blind, method)(address, given)
        assert page.status_code == 200
        assert SECRET not in page.content.decode(), address
        seen += SECRET in getattr(reads, method)(address, given).content.decode()
    assert seen > 5


def test_without_it_what_is_known_of_an_answer_is_shown_all_the_same(blind: Client) -> None:
    entry, key = secrets()
    (row,) = rows(blind.get(ENTRIES))
    assert row[0] == entry.key[:12]
    assert row[1].startswith("living 59 min left")
    assert row[2:4] == ["acme claude-sonnet-5, default", "46 $0.0042"]
    told = text(blind.get(f"{ENTRIES}{entry.pk}/change/"))
    for words in (f"Key: {entry.key}", "State: living", "Whose: acme", "Policy: default", "Cost: $0.0042", "prices"):
        assert words in told
    assert told.count("aicache.view_content") == 1
    told = text(blind.get(f"{KEYS}{key.pk}/change/"))
    assert "Key: order-1" in told
    assert told.count("aicache.view_content") == 1
    assert "There is none yet" in text(blind.get(f"{KEYS}{pinned('order-2').pk}/change/"))


def test_without_it_nothing_can_be_guessed_by_searching(blind: Client, reader: Client) -> None:
    secrets()
    for words in (SECRET, f"acme {SECRET}", f'"{SECRET} question"', "question", "messages"):
        assert rows(blind.get(ENTRIES, {"q": words})) == []
        assert len(rows(reader.get(ENTRIES, {"q": words}))) == 1
    assert len(rows(blind.get(ENTRIES, {"q": "acme prices sonnet"}))) == 1
    assert "a request where it is kept" not in text(blind.get(ENTRIES))
    assert "a request where it is kept" in text(reader.get(ENTRIES))


@pytest.mark.parametrize("how", ["contains", "icontains", "startswith", "regex", "gt", "isnull", "length__gt"])
@pytest.mark.parametrize(
    ("address", "column"), [(ENTRIES, "request"), (ENTRIES, "payload"), (KEYS, "payload"), (KEYS, "parts")]
)
def test_without_it_nothing_can_be_guessed_by_an_address(blind: Client, address: str, column: str, how: str) -> None:
    secrets()
    assert blind.get(address, {f"{column}__{how}": SECRET}).status_code == 400
    assert blind.get(address, {column: SECRET}).status_code == 400
    assert blind.get(address, {"model__contains": "sonnet"}).status_code == 200


def test_without_it_no_question_is_read_from_the_database(blind: Client) -> None:
    secrets()
    with CaptureQueriesContext(connection) as captured:
        blind.get(ENTRIES, {"q": "acme"})
    assert not [query for query in captured if '"request"' in query["sql"]]


@pytest.mark.urls("tests.admin.backstage")
def test_superusers_have_it(transactional_db: None) -> None:
    entry, _ = secrets()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    assert f"{SECRET} answer" in text(client.get(f"/backstage/aicache/cacheentry/{entry.pk}/change/"))


def test_it_is_no_right_to_a_page(staff: Staff) -> None:
    entry, _ = secrets()
    client = staff("view_content")
    assert client.get(ENTRIES).status_code == 403
    assert client.get(f"{ENTRIES}{entry.pk}/change/").status_code == 403


def test_the_rights_are_made_by_migrating(transactional_db: None) -> None:
    call_command("makemigrations", "aicache", check=True, dry_run=True, verbosity=0)
    made = dict(Permission.objects.filter(content_type__model="cacheentry").values_list("codename", "name"))
    assert made == {
        "view_cacheentry": "Can view entry",
        "purge_entry": "Can purge entries",
        "view_content": "Can read questions and answers",
        "mark_wrong": "Can mark answers as right or wrong",
        "refresh_entry": "Can have answers made anew",
    }
    assert all(re.fullmatch(r"Can .+", name) for name in made.values())
