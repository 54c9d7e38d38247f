"""docs/operations.md says what the code does: each line that may be logged, and what calls cost in round trips."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from aicache.testing.valkey import Valkey
from tests.answers import ask
from tests.store.test_roundtrips import Counted

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()
LOG_LINES = PAGE.split("### Log lines")[1].split("\n## ")[0]
LOUD = ("warning", "error", "exception", "critical")


def described() -> list[tuple[str, str]]:
    """Loggers and lines, as the tables have them."""
    rows = re.findall(r"^\| `(aicache[.\w]*)` \| (.*) \|$", LOG_LINES, re.MULTILINE)
    return [(logger, line) for logger, text in rows for line in re.findall(r"`([^`]+)`", text)]


def logged() -> Iterator[tuple[str, str]]:
    """Loggers and lines, as the code of a site has them: ``%s`` where something is filled in."""
    for path in sorted(set((ROOT / "aicache").rglob("*.py")) - set((ROOT / "aicache" / "testing").rglob("*"))):
        tree = ast.parse(path.read_text())
        (logger,) = re.findall(r'^logger = logging.getLogger\("([\w.]+)"\)$', path.read_text(), re.MULTILINE) or [""]
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(ast.Name("logger"), level), [ast.Constant(str(line)), *_]) if level in LOUD:
                    yield logger, line


def stands_for(line: str) -> re.Pattern[str]:
    return re.compile(".+".join(re.escape(part) for part in re.split(r"%[sr]", line)))


def test_each_line_that_is_logged_is_described() -> None:
    found = set(logged())
    assert len(found) > 20  # it does look
    known = described()
    missing = [
        (logger, line)
        for logger, line in sorted(found)
        if not any(logger == named and stands_for(line).fullmatch(shown) for named, shown in known)
    ]
    assert missing == []


def test_no_line_is_described_that_is_not_logged() -> None:
    found = set(logged())
    strange = [
        (named, shown)
        for named, shown in described()
        if not any(logger == named and stands_for(line).fullmatch(shown) for logger, line in found)
    ]
    assert strange == []


@pytest.fixture
def quiet() -> Iterator[int]:
    """The port of a server that nobody else uses."""
    with Valkey() as server:
        there = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url}}
        with override_settings(CACHES=there):
            yield server.port


def said_of(what: str) -> list[str]:
    """The row of a table, its first cell and the numbers in the others."""
    (row,) = re.findall(rf"^\| {what} \| (.*) \|$", PAGE, re.MULTILINE)
    return [re.sub(r"\D+", " ", cell).strip() for cell in row.split(" | ")]


def test_the_round_trips_are_as_many_as_it_says(quiet: int) -> None:
    ask("warms the scripts up", "other")

    def reads(question: str, *tags: str, status: str) -> int:
        counted = Counted(quiet)
        assert ask(question, *tags) == status
        return counted.since()["reads"]

    bare = reads("bare", status="miss")
    first, later = reads("first", "prices", status="miss"), reads("later", "prices", status="miss")
    assert [str(bare), f"{later} {first}"] == said_of("a miss")
    hits = [reads("bare", status="hit"), reads("first", "prices", status="hit")]
    assert [str(number) for number in hits] == said_of("a hit")
