"""The dashboard in a real browser: drawn from much, brought up to date by itself, usable without a mouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import Browse
from tests.browser.page import Page
from tests.browser.site import Site
from tests.example_project.visits import Visitor
from tests.ledger.generated import generated

URL = "/admin/aicache/metricbucket/"
DRAWN = "[...document.querySelectorAll('canvas')].map((one) => Chart.getChart(one)?.data.labels.length)"
NAMES = "[...document.querySelectorAll('#aicache-tenants-table tbody th')].map((one) => one.textContent.trim())"


@pytest.fixture(scope="module")
def crowded() -> Iterator[Site]:
    """A site whose 200 tenants have made calls for 90 days."""
    with Site() as site:
        generated(site.database)
        yield site


def looked_at(page: Page, name: str, *, closely: bool) -> None:
    page.go(f"{URL}?period=90d")
    assert page.script(DRAWN) == [90, 90, 90]
    assert page.count("#aicache-tenants-table tbody tr") == 200
    assert page.overhang == 0
    assert not closely or page.axe() == []
    page.shot(name)


# One test, as each worker would make a crowd of its own.
@pytest.mark.timeout(400)
def test_ninety_days_of_two_hundred_tenants_are_drawn_everywhere(chromium: Chromium, crowded: Site) -> None:
    complaints = []
    for name, width, height, dark in (
        ("dashboard-light", 1440, 900, False),
        ("dashboard-dark", 1440, 900, True),
        ("dashboard-light-390", 390, 844, False),
        ("dashboard-dark-390", 390, 844, True),
    ):
        page = Page.opened(chromium, crowded, width, height, dark=dark, staff=True)
        looked_at(page, name, closely=dark is (width < 600))  # axe takes its time with so many rows
        complaints += page.complaints
        page.close()
    assert complaints == []


def test_it_brings_itself_up_to_date(browse: Browse, site: Site) -> None:
    page = browse(staff=True)
    page.go(f"{URL}?period=1h")
    page.script("window.isTheSame = true")
    before = page.text("#aicache-tile-hit_rate .aicache-note")
    visitor = Visitor(site.url)
    for _ in range(2):
        visitor.post("/globex/ask/", question="Is the dashboard alive?")
    page.do(
        lambda tab: tab.wait_for_function(
            "(before) => document.querySelector('#aicache-tile-hit_rate .aicache-note').textContent.trim() !== before",
            arg=before,
        )
    )
    assert page.script("window.isTheSame")
    assert "globex" in page.script(NAMES)
    page.shot("dashboard-live")


@pytest.mark.parametrize(
    "place",
    [
        "#aicache-tenants-table tbody a",
        "#aicache-points-table summary",
        "#aicache-tables .aicache-wide",
        ".aicache-export",
    ],
)
def test_who_is_somewhere_with_the_keyboard_stays_there(browse: Browse, site: Site, place: str) -> None:
    visitor = Visitor(site.url)
    visitor.post("/globex/ask/", question="Who is where?")
    page = browse(staff=True)
    page.go(f"{URL}?period=1h")
    page.wait("#aicache-tenants-table >> text=globex")
    page.script(f"document.querySelector('{place}').focus()")
    page.script("document.addEventListener('aicache:updated', () => { window.wasUpdated = true; })")
    visitor.post("/globex/ask/", question="Who is where?")
    page.do(lambda tab: tab.wait_for_function("() => window.wasUpdated"))
    assert page.script(f"document.activeElement === document.querySelector('{place}')")


def test_where_nobody_calls_it_looks_again_all_the_same(browse: Browse, site: Site) -> None:
    page = browse(staff=True)
    page.do(lambda tab: tab.clock.install())
    page.go(f"{URL}?period=1h&tenant=nobody")
    looked: list[str] = []
    page.do(lambda tab: tab.on("request", lambda request: looked.append(request.url)))

    def minutes(tab: Any) -> None:
        for _ in range(20):
            tab.clock.run_for(3000)
            tab.wait_for_timeout(50)

    page.do(minutes)  # what was counted just before is waited for
    looked.clear()
    page.do(minutes)
    assert [url for url in looked if "/pulse/" not in url] != []


def test_times_are_told_at_whole_powers_of_ten(browse: Browse, site: Site) -> None:
    visitor = Visitor(site.url)
    for _ in range(2):
        visitor.post("/globex/ask/", question="How long does this take?")
    page = browse(staff=True)
    page.go(f"{URL}?period=1h")
    ticks = page.script("Chart.getChart('aicache-times').scales.y.ticks.map((one) => one.label)")
    assert {label for label in ticks if label[0] not in "125" and not label.startswith("0.")} == set()
    assert ticks == list(dict.fromkeys(ticks))
    assert len(ticks) > 1


def test_who_has_stopped_it_is_not_disturbed(browse: Browse, site: Site) -> None:
    page = browse(staff=True)
    page.go(f"{URL}?period=1h")
    page.do(lambda tab: tab.wait_for_function("document.getElementById('aicache-live').hidden === false"))
    page.click("#aicache-live")
    assert page.script("document.getElementById('aicache-live').getAttribute('aria-pressed')") == "false"
    asked: list[str] = []
    page.do(lambda tab: tab.on("request", lambda request: asked.append(request.url)))
    page.do(lambda tab: tab.wait_for_timeout(5000))
    assert asked == []


def test_tables_are_sorted_by_keyboard_and_stay_so(browse: Browse, site: Site) -> None:
    visitor = Visitor(site.url)
    visitor.post("/acme/ask/", question="Who sorts these?")
    visitor.post("/globex/ask/", question="Who sorts these?")
    page = browse(staff=True)
    page.do(lambda tab: tab.goto(f"{site.url}{URL}?period=1h"))
    page.do(lambda tab: tab.wait_for_selector("text=acme"))
    page.do(lambda tab: tab.focus("#aicache-tenants-table thead th:first-child button"))
    page.do(lambda tab: tab.keyboard.press("Enter"))
    assert page.script(NAMES) == sorted(page.script(NAMES))
    page.do(lambda tab: tab.keyboard.press("Enter"))
    assert page.script(NAMES) == sorted(page.script(NAMES), reverse=True)
    assert page.script("document.querySelector('#aicache-tenants-table th').getAttribute('aria-sort')") == "descending"
    visitor.post("/acme/ask/", question="And who sorts these?")
    page.do(
        lambda tab: tab.wait_for_function(
            "document.querySelector('#aicache-tenants-table th').getAttribute('aria-sort') === 'descending' && "
            "document.activeElement.id === 'aicache-tenants-table-sort-0'"
        )
    )
