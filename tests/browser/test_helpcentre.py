"""The help-centre, by keyboard and mouse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import Browse
from tests.browser.looks import fit
from tests.browser.page import Page
from tests.browser.site import Site


def front(page: Page) -> None:
    page.go("/")


def articles(page: Page) -> None:
    page.go("/acme/")


def article(page: Page) -> None:
    page.go("/globex/articles/8/")
    page.press(".suggestions button")


def answer(page: Page) -> None:
    """Of a long question, and for the second time."""
    page.go("/globex/ask/")
    page.fill("textarea", f"How-{'very-' * 60}long?")
    page.press(".ask")
    page.press(".ask")
    assert page.text(".badge") == "hit"


def german(page: Page) -> None:
    page.go("/acme/")
    page.press(".languages button[lang=de]")
    page.fill("textarea", "Wann ist geöffnet?")
    page.press(".ask")
    assert page.text(".badge") == "miss"


def refused(page: Page) -> None:
    page.expect("422 .Unprocessable")
    page.go("/acme/")
    page.fill("textarea", "  ")
    page.press(".ask")
    assert page.count(".wrong") == 1


def failed(page: Page) -> None:
    page.expect("502 .Bad Gateway")
    page.go("/acme/articles/3/")
    page.fill("textarea", "Do you fail?")
    page.press(".ask")
    assert page.text(".badge") == "error"


WAYS = (front, articles, article, answer, german, refused, failed)


@pytest.mark.parametrize("way", WAYS)
def test_its_page_is_fit_to_be_looked_at(browse: Browse, site: Site, way: Callable[[Page], None]) -> None:
    if way is failed:
        site.claude.set(script=[{"error": 401}])
    page = browse()
    way(page)
    fit(page, f"helpcentre/{way.__name__}")


def test_a_question_asked_twice_is_first_a_miss_and_then_a_hit(browse: Browse) -> None:
    page = browse(390, 844, dark=True)
    page.go("/acme/")
    page.fill("textarea", "Do you repair zips?")
    page.press(".ask")
    first = page.text(".answer .text")
    assert page.text(".badge") == "miss"
    page.press(".ask")  # the question still stands there
    assert page.text(".badge") == "hit"
    assert page.text(".answer .text") == first
    assert page.overhang == 0
    assert page.script("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 18)"  # the dark page


def test_a_form_that_the_browser_sends_again_is_the_same_call(browse: Browse) -> None:
    page = browse(390, 844)
    page.go("/acme/ask/")
    page.fill("textarea", "Do you rent skis?")
    page.click("[name=refresh]")
    page.press(".ask")
    first = page.text(".answer .text")
    assert page.text(".badge") == "miss"
    page.reload()
    assert page.text(".answer .text") == first
    assert page.text(".badge") == "hit"
    assert "this very form had been sent before" in page.text(".card")
    assert page.overhang == 0


def test_who_goes_back_and_edits_the_question_has_an_answer_to_that(browse: Browse) -> None:
    page = browse()
    page.go("/acme/")
    page.fill("textarea", "Do you rent tents?")
    page.press(".ask")
    page.back()
    page.fill("textarea", "Do you rent kayaks?")
    page.press(".ask")
    assert "Do you rent kayaks?" in page.text(".answer .text")
    assert "with another question in it" in page.text(".note")
    page.press(".ask")  # of the new form
    assert page.text(".badge") == "hit"
    assert not page.count(".note")


def test_an_article_is_edited_in_the_admin_and_the_next_answer_about_it_is_new(browse: Browse) -> None:
    page = browse(390, 844)
    about_it, about_another = _asked(page, 1), _asked(page, 2)
    page.log_in()
    page.go("/acme/articles/1/")
    page.press("a[href*='/admin/helpcentre/article/']")
    page.fill("[name=body]", "No refunds any more.")
    page.press("[name=_save]")
    assert _asked(page, 1) != about_it
    assert page.text(".badge") == "miss"
    assert "No refunds any more." in page.text("article")
    assert _asked(page, 2) == about_another
    assert page.text(".badge") == "hit"
    page.go("/admin/aicache/invalidationtag/purge/")
    page.fill("[name=tag]", "helpcentre.article:2")
    page.fill("[name=tenant]", "acme")
    page.press("#content [type=submit]")
    page.press("#content [type=submit]")
    assert _asked(page, 2) != about_another
    assert "invalidated:helpcentre.article:2" in page.text(".card")
    assert page.overhang == 0
    assert page.script("document.querySelector('.card').scrollWidth <= document.querySelector('.card').clientWidth")


def _asked(page: Page, pk: int) -> str:
    page.go(f"/acme/articles/{pk}/")
    page.press(".suggestions button")
    return page.text(".answer .text")
