"""The help-centre in a real browser, by keyboard and mouse."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.example_project.browser import CHROMIUM, Browser
from tests.example_project.conftest import Manage
from tests.example_project.test_serve import opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture
def said(manage: Manage) -> Iterator[str]:
    """What ``manage.py serve`` says when it is ready."""
    process = manage("serve")
    yield opened(process)
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture
def url(said: str) -> str:
    found = re.search(r"http://\S+/", said)
    assert found
    return found[0]


def test_a_question_asked_twice_is_first_a_miss_and_then_a_hit(url: str) -> None:
    with Browser(390, 844, dark=True) as browser:
        browser.go(f"{url}acme/")
        browser.fill("textarea", "Do you repair zips?")
        browser.press(".ask")
        first = browser.text(".answer .text")
        assert browser.text(".badge") == "miss"
        browser.press(".ask")  # the question still stands there
        assert browser.text(".badge") == "hit"
        assert browser.text(".answer .text") == first
        assert browser.script("document.documentElement.scrollWidth") == 390  # nothing sticks out of a telephone
        assert browser.script("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 18)"  # the dark page


def test_a_form_that_the_browser_sends_again_is_the_same_call(url: str) -> None:
    with Browser(390, 844) as browser:
        browser.go(f"{url}acme/ask/")
        browser.fill("textarea", "Do you rent tents?")
        browser.script("document.querySelector('[name=refresh]').click()")
        browser.press(".ask")
        first = browser.text(".answer .text")
        assert browser.text(".badge") == "miss"
        browser.reload()
        assert browser.text(".answer .text") == first
        assert browser.text(".badge") == "hit"
        assert "this very form had been sent before" in browser.text(".card")
        assert browser.script("document.documentElement.scrollWidth") == 390


def test_who_goes_back_and_edits_the_question_has_an_answer_to_that(url: str) -> None:
    with Browser() as browser:
        browser.go(f"{url}acme/")
        browser.fill("textarea", "Do you rent tents?")
        browser.press(".ask")
        browser.back()
        browser.script("document.querySelector('textarea').value = ''")
        browser.fill("textarea", "Do you rent kayaks?")
        browser.press(".ask")
        assert "Do you rent kayaks?" in browser.text(".answer .text")
        assert "with another question in it" in browser.text(".note")
        browser.press(".ask")  # of the new form
        assert browser.text(".badge") == "hit"
        assert not browser.script("document.querySelector('.note')")


def test_an_article_is_edited_in_the_admin_and_the_next_answer_about_it_is_new(url: str, said: str) -> None:
    password = re.search(r"password (\S+)", said)
    assert password

    def asked(browser: Browser, pk: int) -> str:
        browser.go(f"{url}acme/articles/{pk}/")
        browser.press(".suggestions button")
        return browser.text(".answer .text")

    with Browser(390, 844) as browser:
        about_it, about_another = asked(browser, 1), asked(browser, 2)
        browser.go(f"{url}admin/login/?next=/admin/")
        browser.fill("[name=username]", "admin")
        browser.fill("[name=password]", password[1])
        browser.press("[type=submit]")
        browser.go(f"{url}acme/articles/1/")
        browser.press("a[href*='/admin/helpcentre/article/']")
        browser.script("document.querySelector('[name=body]').value = 'No refunds any more.'")
        browser.press("[name=_save]")
        assert asked(browser, 1) != about_it
        assert browser.text(".badge") == "miss"
        assert "No refunds any more." in browser.text("article")
        assert asked(browser, 2) == about_another
        assert browser.text(".badge") == "hit"
        browser.go(f"{url}admin/aicache/invalidationtag/purge/")
        browser.fill("[name=tag]", "helpcentre.article:2")
        browser.fill("[name=tenant]", "acme")
        browser.press("#content [type=submit]")
        browser.press("#content [type=submit]")
        assert asked(browser, 2) != about_another
        assert "invalidated:helpcentre.article:2" in browser.text(".card")
        assert browser.script("document.documentElement.scrollWidth") == 390
        assert browser.script(
            "document.querySelector('.card').scrollWidth <= document.querySelector('.card').clientWidth"
        )
