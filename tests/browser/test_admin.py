"""Every page of the app in the admin: under a strict policy, wide and narrow, in light and in dark."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.browser.conftest import Browse
from tests.browser.looks import fit
from tests.browser.page import Page
from tests.browser.site import Site
from tests.example_project.visits import Visitor, status_on

pytestmark = pytest.mark.usefixtures("used_site")

APP = "/admin/aicache"
PATIENCE = 60.0
FIRST = "#result_list tbody tr:first-child th a"


def go(page: Page, model: str, query: str = "") -> None:
    """Tags are listed some seconds after their first use."""
    page.go(f"{APP}/{model}/{query}")
    deadline = time.monotonic() + PATIENCE
    while model == "invalidationtag" and not page.count("#result_list") and time.monotonic() < deadline:
        time.sleep(0.5)
        page.go(f"{APP}/{model}/{query}")


def listed(model: str, query: str = "") -> Callable[[Page], None]:
    def way(page: Page) -> None:
        go(page, model, query)

    return way


def first(model: str, query: str = "") -> Callable[[Page], None]:
    def way(page: Page) -> None:
        go(page, model, query)
        page.press(FIRST)

    return way


def deed(model: str, query: str = "") -> Callable[[Page], None]:
    """Of the first in the list: what is asked before it is done."""

    def way(page: Page) -> None:
        go(page, model, query)
        page.press(FIRST)
        page.press(".object-tools li:first-child a")

    return way


def deeds(model: str, verb: str) -> Callable[[Page], None]:
    """Of all in the list."""

    def way(page: Page) -> None:
        go(page, model)
        page.click("#action-toggle")
        page.do(lambda tab: tab.select_option("select[name=action]", verb))
        page.press(".actions button[name=index]")

    return way


def form(page: Page) -> None:
    page.go(f"{APP}/invalidationtag/purge/")


def refused_form(page: Page) -> None:
    form(page)
    page.press("#content [type=submit]")


def asked_form(page: Page) -> None:
    form(page)
    page.fill("[name=tag]", "helpcentre.article")
    page.fill("[name=tenant]", "acme")
    page.press("#content [type=submit]")


WAYS = {
    "entries": listed("cacheentry"),
    "entry": first("cacheentry", "?q=September"),
    "entry-long": first("cacheentry", "?q=Why"),
    "entries-purge": deeds("cacheentry", "purge"),
    "keys": listed("idempotencykey"),
    "keys-none": listed("idempotencykey", "?q=nobody-named-one-so"),
    "key": first("idempotencykey"),
    "key-forget": deed("idempotencykey"),
    "tags": listed("invalidationtag"),
    "tag": first("invalidationtag"),
    "tag-purge": deed("invalidationtag", "?q=acme"),
    "entries-of-tag": listed("cacheentry", "?tag=helpcentre.article&life=on&age=day"),
    "entry-served": first("cacheentry", "?q=open"),
    "entry-refresh": deed("cacheentry", "?q=open"),
    "tags-purge": deeds("invalidationtag", "purge"),
    "purge-form": form,
    "purge-form-refused": refused_form,
    "purge-form-asked": asked_form,
    "invalidations": listed("invalidation"),
    "invalidation": first("invalidation"),
}


@pytest.mark.parametrize("name", WAYS)
def test_its_page_is_fit_to_be_looked_at(browse: Browse, name: str) -> None:
    page = browse(staff=True)
    WAYS[name](page)
    fit(page, f"admin/{name}")


def test_what_is_pending_is_told_before_all_else(browse: Browse, used_site: Site) -> None:
    page = browse(staff=True)
    with hung(used_site):
        asked_form(page)
        page.press("#content [type=submit]")
        assert "written, and pending" in page.text(".messagelist")
        listed("invalidation")(page)
        assert "1 invalidation is pending" in page.text("#content")
        fit(page, "admin/invalidations-pending")
    while page.count(".aicache-pending"):
        listed("invalidation")(page)
    assert not page.count("#content .messagelist")


@contextmanager
def hung(site: Site) -> Iterator[None]:
    """Its Redis accepts, and does not answer; in the end it does again, and the site knows."""
    with redis.Redis.from_url(site.redis) as client:
        process = client.info("server")["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
    visitor = Visitor(site.url)
    while status_on(visitor.post("/globex/ask/", question="Are you there?")) == "degraded":
        time.sleep(0.05)
