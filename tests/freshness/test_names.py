"""A name that begins with a label is that label's, however it is written."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps

import aicache
from aicache.errors import ArgumentError
from aicache.frame import current
from aicache.freshness import family
from aicache.freshness.options import one_name
from aicache.freshness.registry import source_of, verify
from aicache.invalidation import invalidate
from aicache.purge import Purge
from tests.freshness.library.models import Article, Loose
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True)

SPELLINGS = [
    ("library.article", "library.article"),
    ("library.Article", "library.article"),
    ("LIBRARY.ARTICLE:4", "library.article:4"),
    ("library.FeaturedArticle", "library.article"),
    ("library.featuredarticle:4:A", "library.article:4:A"),
    ("library.Unregistered:4", "library.Unregistered:4"),
    ("library.Nothing", "library.Nothing"),
    ("nothing.Article", "nothing.Article"),
    ("Article:4", "Article:4"),
    ("Prices", "Prices"),
    ("Prices.2026:A", "Prices.2026:A"),
    (".", "."),
    ("library.", "library."),
    ("library.article ", "library.article "),
]


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_wherever_it_is_given(written: str, meant: str, store: Recorder) -> None:
    assert one_name(written, "tags") == meant
    with aicache.scope(tags=[written]):
        assert current().tags == {meant}
    assert Purge.of([written], "acme").names == (meant,)
    invalidate(written, tenant="acme")
    assert store.tags == tags(meant, tenant="acme")


def test_what_is_spelled_right_stays() -> None:
    for _, meant in SPELLINGS:
        assert one_name(meant, "tags") == meant


def test_the_label_of_an_app_may_have_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(apps.all_models, "Shelves", {"article": Article})
    assert one_name("shelves.Article:4", "tags") == "library.article:4"


def test_a_scope_that_is_older_than_the_registration(registered: Any) -> None:
    family._registered.pop("library.article")

    @aicache.scope(tags=["library.Article"])
    def asked() -> Any:
        return current().tags

    assert asked() == {"library.Article"}
    registered(Article)
    assert asked() == {"library.article"}


def test_the_tags_of_a_registration_that_is_older_than_another(registered: Any, store: Recorder) -> None:
    family._registered.pop("library.article")
    registered(Loose, tags=["library.Article", "Prices"])
    registered(Article)
    verify()
    assert source_of(Loose(pk=1)).names() == {"library.loose:1", "library.loose", "library.article", "Prices"}
    row = Loose.objects.create(text="a")
    assert store.tags == tags(f"library.loose:{row.pk}", "library.loose:*", "library.article", "Prices")


@pytest.mark.parametrize(
    "given", [{"a": 1}, b"a", bytearray(b"a"), memoryview(b"a")], ids=lambda given: type(given).__name__
)
@pytest.mark.parametrize("name", ["tags", "vary", "sources"])
def test_what_is_no_list_of_names_is_refused(name: str, given: Any) -> None:
    with pytest.raises(ArgumentError, match=rf"{name} is .*accepted: a list"):
        aicache.scope(**{name: given})
