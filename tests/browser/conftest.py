"""Pages of the help-centre and its admin in a real browser; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.browser.chromium import CHROMIUM, Chromium
from tests.browser.history import lived
from tests.browser.page import Page
from tests.browser.site import Site

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture(scope="session")
def used_site(site: Site) -> Site:
    """The same site, where this and that has happened already."""
    lived(site)
    return site


class Browse(Protocol):
    def __call__(self, width: int = 1200, height: int = 900, *, dark: bool = False, staff: bool = False) -> Page: ...


@pytest.fixture
def browse(chromium: Chromium, site: Site) -> Iterator[Browse]:
    """Opens pages, each in a window of its own with its own cookies; a trouble in any of them fails the test."""
    pages: list[Page] = []

    def open_one(width: int = 1200, height: int = 900, *, dark: bool = False, staff: bool = False) -> Page:
        pages.append(Page.opened(chromium, site, width, height, dark=dark, staff=staff))
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()
    assert site.runs, f"the site has ended by itself:\n{site.log()[-4000:]}"
    if complaints := [complaint for page in pages for complaint in page.complaints]:
        pytest.fail("\n".join(["The page had trouble:", *complaints]), pytrace=False)
