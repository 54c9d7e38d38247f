"""A list without rows says how they come about."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Staff
from tests.admin.kept import kept
from tests.admin.pages import ENTRIES, INVALIDATIONS, KEYS, TAGS, text

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


@pytest.mark.parametrize(
    ("address", "right", "lesson"),
    [
        (ENTRIES, "view_cacheentry", "No answer is kept."),
        (KEYS, "view_idempotencykey", "No key is kept."),
        (TAGS, "view_invalidationtag", "No tag is in use."),
        (INVALIDATIONS, "view_invalidation", "Nothing was invalidated."),
    ],
)
def test_an_empty_list_teaches(staff: Staff, address: str, right: str, lesson: str) -> None:
    client = staff(right)
    assert lesson in text(client.get(address))
    assert lesson not in text(client.get(address, {"q": "nobody-named-one-so"}))


def test_a_list_with_rows_does_not(staff: Staff) -> None:
    kept()
    assert "No answer is kept." not in text(staff("view_cacheentry").get(ENTRIES))
