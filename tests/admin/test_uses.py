"""An entry's page says when it was served."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from aicache.admin.uses import MOST
from aicache.ledger.counting import get_flusher
from aicache.ledger.hits import DAY, HOUR
from aicache.models import CacheEntry, EntryHits
from tests.admin.kept import kept
from tests.admin.limits import limited_to
from tests.admin.pages import ENTRIES, text

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]


def served(row: CacheEntry, span: int, ago: float, hits: int) -> None:
    at = int(time.time() - ago) // span * span
    EntryHits.objects.create(entry=row.pk, span=span, start=at, hits=hits)


def made(ago: timedelta, **more: Any) -> CacheEntry:
    return kept(created_at=timezone.now() - ago, **more)


def page(client: Client, row: CacheEntry) -> Any:
    return client.get(f"{ENTRIES}{row.pk}/change/")


def bars(client: Client, row: CacheEntry) -> tuple[str, list[tuple[str, str, str]]]:
    """The box of the picture; and of each bar where it begins, how high it is, and its number."""
    shown = page(client, row).content.decode()
    (box,) = re.findall(r'<svg viewBox="([^"]+)"', shown)
    return box, re.findall(r'<rect x="(\d+)" y="\d+" width="8" height="(\d+)"><title>[^<]*: ([\d.]+)</title>', shown)


def test_while_it_is_young_by_the_hour(reader: Client) -> None:
    row = made(timedelta(hours=4))
    served(row, HOUR, 4 * 3600, 1)
    served(row, HOUR, 3600, 120)
    served(row, DAY, 0, 121)
    assert bars(reader, row) == ("0 0 240 60", [("191", "1", "1"), ("221", "60", "120")])
    assert "121 hits; 120 in an hour at most" in text(page(reader, row))


def test_then_by_the_day(reader: Client) -> None:
    row = made(timedelta(days=5), life=3600.0 * 24 * 9)
    served(row, DAY, 5 * DAY, 30)
    served(row, DAY, DAY, 60)
    served(row, HOUR, 0, 1)
    assert bars(reader, row) == ("0 0 240 60", [("181", "30", "30"), ("221", "60", "60")])
    assert "90 hits; 60 in a day at most" in text(page(reader, row))


def test_of_a_long_life_the_end(reader: Client) -> None:
    row = made(timedelta(days=400), life=3600.0 * 24 * 900)
    served(row, DAY, 0, 1)
    served(row, DAY, 300 * DAY, 1)
    assert bars(reader, row) == (f"0 0 {MOST * 10} 60", [(str(MOST * 10 - 9), "60", "1")])


def test_of_an_answer_before_it_that_had_its_place_nothing(reader: Client) -> None:
    row = made(timedelta(hours=1))
    served(row, HOUR, 5 * 3600, 7)
    assert "It was not served yet" in text(page(reader, row))


def test_numbers_in_the_picture_are_the_same_in_every_language(reader: Client) -> None:
    row = made(timedelta(days=300), life=3600.0 * 24 * 900)
    served(row, DAY, 0, 5000)
    with override_settings(LANGUAGE_CODE="de", USE_THOUSAND_SEPARATOR=True):
        assert bars(reader, row)[1] == [(str(MOST * 10 - 9), "60", "5.000")]


def test_where_it_is_not_known_it_says_so(reader: Client) -> None:
    assert "When it was served is not known." in text(page(reader, kept(hits=3)))
    assert "It was not served yet, as far as is known." in text(page(reader, kept()))


def test_what_the_app_has_noted_is_shown(reader: Client) -> None:
    row = kept()
    hits = get_flusher().hits
    for _ in range(3):
        hits.note(row.owner, row.key, lambda settings: settings.namespace)
    hits.write("default")
    assert "3 hits; 3 in an hour at most" in text(page(reader, row))


def test_the_page_works_without_redis_and_for_limited_staff(reader: Client) -> None:
    row = made(timedelta(hours=1))
    served(row, HOUR, 0, 2)
    with limited_to("acme"):
        assert "2 hits" in text(page(reader, row))
    with limited_to("globex"):
        assert page(reader, row).status_code == 302


def test_there_is_no_style_in_place(reader: Client) -> None:
    row = made(timedelta(hours=1))
    served(row, HOUR, 0, 2)
    shown = page(reader, row).content.decode()
    assert "style=" not in shown.split("aicache-uses")[1].split("</figure>")[0]
