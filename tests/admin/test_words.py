"""Every word of the pages can be translated; each language that is shipped has them all."""

from __future__ import annotations

import gettext
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.admin.catalog import APP, Catalog, Message, in_code

CATALOGS = sorted(APP.glob("locale/*/LC_MESSAGES/django.po"))
PLACEHOLDERS = re.compile(r"%\(\w+\)[a-z]|%%|<code>.*?</code>|<[^>]*>")


def language(path: Path) -> str:
    return path.parent.parent.name


def test_japanese_is_shipped() -> None:
    assert "ja" in map(language, CATALOGS)


def test_messages_are_found_in_code_and_in_templates() -> None:
    found = in_code()
    assert {
        Message("Dashboard"),
        Message("answered", context="state"),
        Message("%(number)d day", "%(number)d days"),
        Message("%(number)s more block is not shown.", "%(number)s more blocks are not shown."),
        Message("hit, 95 %%"),
        Message("there is no database"),
    } <= found
    assert len(found) > 300


@pytest.mark.parametrize("path", CATALOGS, ids=language)
class TestATranslation:
    def test_has_all_that_is_said_and_nothing_else(self, path: Path) -> None:
        known = set(Catalog(path).known) - {Message("")}
        assert in_code() - known == set(), "aicache/locale lacks these"
        assert known - in_code() == set(), "nobody says these any more"

    def test_leaves_nothing_open(self, path: Path) -> None:
        catalog = Catalog(path)
        assert catalog.fuzzy == []
        assert [message for message, texts in catalog.known.items() if not all(texts)] == []

    def test_keeps_placeholders_and_markup(self, path: Path) -> None:
        wrong = []
        for message, texts in Catalog(path).known.items():
            wanted = Counter(PLACEHOLDERS.findall(message.plural or message.text))
            wrong += [text for text in texts if Counter(PLACEHOLDERS.findall(text)) != wanted]
        assert wrong == []

    def test_is_compiled_as_it_is_written(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            compiled: dict[Any, str] = dict(gettext.GNUTranslations(file)._catalog)  # type: ignore[attr-defined]
        header = compiled.pop("")
        catalog = Catalog(path)
        assert compiled == catalog.compiled(), "run django-admin compilemessages in aicache/"
        assert [header] == catalog.known[Message("")]

    def test_names_nobody(self, path: Path) -> None:
        assert "Last-Translator" not in path.read_text(encoding="utf-8")
