"""The tests' own page: it notices what it has to notice."""

from __future__ import annotations

import asyncio
import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Route

from tests.browser.conftest import Browse
from tests.browser.page import Page
from tests.browser.site import Site

STRICT = "default-src 'self'"


def shown(page: Page, body: str, policy: str = STRICT) -> None:
    """A page with that in it, from the site's own address."""

    def serve(route: Route) -> None:
        head = '<meta name="viewport" content="width=device-width"><title>A page</title>'
        html = f'<!doctype html><html lang="en"><head>{head}</head><body><main><h1>A page</h1>{body}</main></body>'
        route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy})

    page.do(lambda tab: tab.route("**/shown", serve))
    page.go("/shown")


@pytest.mark.parametrize(
    ("body", "policy", "trouble"),
    [
        ("<script>console.log(1)</script>", STRICT, "Content-Security-Policy: script-src-elem forbids inline"),
        ('<p style="color: red">Red</p>', STRICT, "Content-Security-Policy: style-src-attr forbids inline"),
        ('<p onclick="f()">Click</p>', STRICT, "Content-Security-Policy: script-src-attr forbids inline"),
        ('<img alt="" src="http://elsewhere.test/a.png">', "", "another host: http://elsewhere.test/a.png"),
        ('<img alt="" src="http://elsewhere.test/a.png">', "", "a request that failed: .*NAME_NOT_RESOLVED"),
        ('<img alt="" src="/static/none.png">', STRICT, "on the console .*404"),
        ("<script>console.error('oh')</script>", "", "on the console .*: oh"),
        ("<script>throw new Error('ah')</script>", "", "an error: .*ah"),
    ],
)
def test_a_page_tells_of_what_goes_wrong_in_it(browse: Browse, body: str, policy: str, trouble: str) -> None:
    page = browse()
    shown(page, body, policy)
    assert re.search(trouble, "\n".join(page.complaints))
    page.expect(".")
    assert page.complaints == []


def test_a_page_without_trouble_has_none(browse: Browse) -> None:
    page = browse()
    shown(page, '<p>All is well.</p><img alt="" src="data:,">', f"{STRICT}; img-src data:")
    assert page.troubles == []
    page.expect("trouble")
    assert page.complaints == ["no such trouble came: trouble"]
    page.expect(".")
    shown(page, "<script>console.error('some trouble')</script>", "")


def test_faults_of_accessibility_are_told_with_where_they_are(browse: Browse) -> None:
    page = browse()
    shown(page, '<p id="pale">Pale</p><input id="bare"><p>Dark</p>', "")
    page.script("document.getElementById('pale').style.cssText = 'color: #ddd; background: #fff'")
    found = page.axe()
    assert [fault.split(":")[:2] for fault in found] == [["color-contrast", " #pale"], ["label", " #bare"]]
    assert "insufficient color contrast of 1.3" in found[0]


def test_what_sticks_out_is_measured(browse: Browse) -> None:
    page = browse(390, 844)
    shown(page, "<p>Fits</p><style>body { margin: 0 }</style>", "")
    assert page.overhang == 0
    page.script("document.querySelector('p').style.width = '500px'")
    assert page.overhang >= 110


def test_a_page_is_as_wide_and_as_dark_as_it_was_asked_for(browse: Browse) -> None:
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    for width, is_dark in ((390, True), (1440, False)):
        page = browse(width, 844, dark=is_dark)
        shown(page, "")
        assert page.script("[innerWidth, innerHeight]") == [width, 844]
        assert page.script(dark) is is_dark
        assert page.shot(f"page-{width}").stat().st_size > 1000


def test_who_has_logged_in_is_still_so_on_the_next_page(browse: Browse, site: Site) -> None:
    browse(staff=True)
    logins = site.log().count("POST /admin/login/")
    page = browse(staff=True)
    page.go("/admin/")
    assert "Site administration" in page.text("#content")
    page = browse()
    page.go("/admin/")
    assert page.path == "/admin/login/"
    assert site.log().count("POST /admin/login/") == logins


def test_while_a_page_is_open_other_tests_may_do_as_they_like(browse: Browse, db: None) -> None:
    """Its event loop runs in a thread where nothing else does."""
    browse().go("/")
    assert User.objects.count() == 0
    assert asyncio.run(asyncio.sleep(0, "slept")) == "slept"
