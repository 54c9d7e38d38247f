"""However a row's key is spelled in memory, the same tag dies, and the same row is a source."""

from __future__ import annotations

import datetime
import enum
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from aicache.freshness.registry import source_of
from aicache.freshness.rows import name_of
from aicache.invalidation import invalidate
from tests.freshness.library.models import (
    Article,
    ByAnyCase,
    ByLower,
    ByMoment,
    ByName,
    ByPrice,
    ByUuid,
    Kinds,
    OfPrice,
    Seat,
    Shelf,
)
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True)

BERLIN = datetime.timezone(datetime.timedelta(hours=2))
NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 5, BERLIN)
KEY = uuid.UUID(int=0xABCDEF)


class Colour(str, enum.Enum):  # noqa: UP042 - one whose text is another than its value
    RED = "red"


@pytest.mark.parametrize(
    ("model", "spelled"),
    [
        (ByPrice, {"id": 8}),
        (ByPrice, {"id": "8.0"}),
        (ByPrice, {"id": Decimal("8.000")}),
        (ByPrice, {"id": Decimal("-0")}),
        (ByMoment, {"at": NOON}),
        (ByMoment, {"at": NOON.isoformat()}),
        (ByName, {"name": Colour.RED}),
        (ByName, {"name": 7}),
        (ByUuid, {"id": KEY.hex.upper()}),
        (Shelf, {"org": KEY.hex, "number": 5}),
        (Shelf, {"org": str(KEY).upper(), "number": "5"}),
        (Seat, {"row": "1", "number": 2.0}),
    ],
    ids=str,
)
def test_what_is_in_memory_and_what_is_loaded_are_one(model: Any, spelled: Any, store: Recorder) -> None:
    made = model.objects.create(**spelled, text="a")
    loaded = model.objects.get()
    label = source_of(loaded).label

    assert tags(label) <= store.taken()
    made._state.adding = False
    assert (source_of(made).label, source_of(made).version()) == (label, source_of(loaded).version())
    made.save()
    assert tags(label) <= store.taken()
    invalidate(model(**spelled))
    assert tags(label) <= store.taken()
    made.delete()
    assert tags(label) <= store.taken()


def test_names_are_spelled_as_the_docs_say() -> None:
    assert name_of("x", ByPrice, 8) == "x:8.00"
    assert name_of("x", ByMoment, NOON) == "x:2026-01-02T10:00:00.000005+00:00"
    assert name_of("x", ByUuid, KEY.hex) == f"x:{KEY}"
    assert name_of("x", Shelf, (KEY.hex.upper(), "5")) == f"x:{KEY},5"
    assert name_of("x", Article, "not a number") == "x:not a number"


def test_a_field_may_give_the_database_something_else(store: Recorder) -> None:
    made = ByLower.objects.create(code="ABC", text="a")
    label = source_of(ByLower.objects.get()).label
    assert label == source_of(made).label == "library.bylower:abc"
    assert tags(label) <= store.taken()
    for change in (ByLower(code="ABC", text="b").save, lambda: invalidate(ByLower(code="Abc")), made.delete):
        change()
        assert tags(label) <= store.taken()


def test_a_field_that_fails_is_no_error_of_a_saver_or_a_caller() -> None:
    article = Article.objects.create(title="a")
    assert name_of("x", Article, float("inf")) == "x:inf"
    article.pk = float("inf")
    assert source_of(article).version()


def test_a_moment_without_a_zone_is_the_one_that_django_saves() -> None:
    assert name_of("x", ByMoment, "2026-01-02 10:00") == "x:2026-01-02T10:00:00+00:00"


def test_a_key_that_is_another_rows_is_spelled_as_that(store: Recorder) -> None:
    price = ByPrice.objects.create(id=8)
    row = OfPrice(price=price, text="a")
    row.save()
    loaded = source_of(OfPrice.objects.get())

    assert loaded.label == "library.ofprice:8.00"
    assert tags(loaded.label) <= store.taken()
    assert source_of(row).version() == loaded.version()


def test_a_fixture_with_another_offset(store: Recorder, tmp_path: Path) -> None:
    ByMoment.objects.create(at=NOON, text="a")
    label = source_of(ByMoment.objects.get()).label
    store.stamped.clear()
    row = {"model": "library.bymoment", "pk": "2026-01-02T05:00:00.000005-05:00", "fields": {"text": "b"}}
    (tmp_path / "rows.json").write_text(json.dumps([row]))

    call_command("loaddata", str(tmp_path / "rows.json"), verbosity=0)

    assert ByMoment.objects.get().text == "b"
    assert tags(label) <= store.tags


def test_where_the_database_takes_two_texts_for_one_the_row_is_read(store: Recorder) -> None:
    ByAnyCase.objects.create(name="Refunds", text="a")
    label = source_of(ByAnyCase.objects.get()).label
    store.stamped.clear()

    ByAnyCase(name="REFUNDS", text="b").save()
    assert (ByAnyCase.objects.get().pk, store.taken()) == ("Refunds", tags(label, "library.byanycase:*"))
    ByAnyCase(name="refunds").delete()
    assert tags(label) <= store.tags


def test_a_number_that_is_no_zero_less_is_the_same_version() -> None:
    kinds = Kinds.objects.create(price=Decimal("-0.00"))
    Kinds.objects.update(price=0)
    assert source_of(kinds).version() == source_of(Kinds.objects.get()).version()
