"""The help-centre in a real browser, by keyboard and mouse."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.example_project.browser import CHROMIUM, Browser
from tests.example_project.conftest import Manage
from tests.example_project.test_serve import opened

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
def url(manage: Manage) -> Iterator[str]:
    process = manage("serve")
    found = re.search(r"http://\S+/", opened(process))
    assert found
    yield found[0]
    process.terminate()
    process.communicate(timeout=20)


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
