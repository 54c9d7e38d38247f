"""Whose rows a user may see is what the site says, and nothing where it does not say it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import override_settings

from aicache import GLOBAL
from aicache.core.tags import EVERYBODY
from aicache.sight import Sight, sight
from aicache.tenants import tenant_digest

ID = uuid.UUID(int=7)


def seen(ask: Callable[[Any], Any] | None, request: HttpRequest | None = None) -> Sight:
    with override_settings(AICACHE={"STAFF_TENANTS": ask}):
        return sight(request or HttpRequest())


def broken(request: HttpRequest) -> Any:
    raise LookupError("no profile of jane")


def broken_later(request: HttpRequest) -> Iterator[str]:
    yield "acme"
    raise LookupError("no profile of jane")


async def an_answer() -> list[str]:
    return ["acme"]


class Fruit:
    def __str__(self) -> str:
        return "acme"


@pytest.mark.parametrize("ask", [None, lambda request: None])
def test_where_nothing_is_kept_from_anybody_everything_is_seen(ask: Any) -> None:
    found = seen(ask)
    assert found == Sight(None)
    assert found.covers(tenant_digest("acme"))
    assert found.covers(EVERYBODY)
    assert found.covers("")


@pytest.mark.parametrize(
    ("said", "covered"),
    [
        (["acme", 7, ID], ["acme", "7", str(ID)]),
        ((tenant for tenant in ("acme", "globex")), ["acme", "globex"]),
        ({"acme": 1}, ["acme"]),
        ([GLOBAL, "acme"], [GLOBAL, "acme"]),
        ([], []),
        ([None, ""], []),
        (["acme", None, "acme"], ["acme"]),
        (["x" * 300, "with\0nul"], ["x" * 300, "with\0nul"]),
    ],
)
def test_the_tenants_that_it_names_are_seen_and_no_others(said: Any, covered: list[Any]) -> None:
    found = seen(lambda request: said)
    assert found.owners == {tenant_digest(tenant) for tenant in covered}
    assert set(found.tenants) == set(covered)
    assert len(found.tenants) == len(covered)
    for tenant in ("acme", "globex", "7", GLOBAL):
        assert found.covers(tenant_digest(tenant)) is (tenant in covered)
    assert not found.covers("")  # what is nobody's


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (broken, "no profile of jane"),
        (broken_later, "no profile of jane"),
        (lambda request: "acme", "is 'acme'"),
        (lambda request: b"acme", "is b'acme'"),
        (lambda request: 7, "is 7"),
        (lambda request: True, "is True"),
        (lambda request: GLOBAL, "is aicache.GLOBAL"),
        (lambda request: ID, "is UUID("),
        (lambda request: [("acme",)], "is ('acme',) (tuple)"),
        (lambda request: ["acme", True], "is True (bool)"),
        (lambda request: [Fruit()], "(Fruit)"),
        (lambda request: ["acme", "\ud800"], "lone surrogates"),
        (lambda request: an_answer(), "coroutine"),
        (lambda request: [an_answer()], "coroutine"),
    ],
)
def test_nothing_is_seen_where_it_fails_or_says_nonsense(ask: Any, told: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="aicache"):
        found = seen(ask)
    assert found == Sight(frozenset())
    assert found.tenants == ()
    (record,) = caplog.records
    assert record.name == "aicache"
    assert "STAFF_TENANTS" in record.getMessage()
    assert told in str(record.exc_info[1] if record.exc_info else "")


def test_it_is_asked_once_for_each_request_and_told_which_one() -> None:
    asked = []

    def ask(request: HttpRequest) -> list[str]:
        asked.append(request)
        return []

    first, second = HttpRequest(), HttpRequest()
    for request in (first, second, first):
        seen(ask, request)
    assert asked == [first, second]
