"""A page in a window of its own, as somebody uses it; it remembers all that went wrong in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request
from playwright.sync_api import Page as Tab

from tests.browser.axe import faults
from tests.browser.chromium import Chromium
from tests.browser.site import Site

SHOTS = Path(__file__).parents[2] / "test-artifacts"
PATIENCE = 20_000  # milliseconds
TELEPHONE = 600  # pixels: what is narrower is one

VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (broken) => console.error(
    `Content-Security-Policy: ${broken.effectiveDirective} forbids ${broken.blockedURI}`
    + ` (${broken.sourceFile}:${broken.lineNumber}) ${broken.sample}`));
"""

# Colours fade into others when the scheme changes: what is looked at in between is neither.
SETTLED = """
() => new Promise((settled) => requestAnimationFrame(() => requestAnimationFrame(() => {
    document.getAnimations().forEach((one) => one.finish());
    settled();
})))
"""

Result = TypeVar("Result")


class Page:
    """``go`` and ``press`` wait for the page that they lead to; selectors are Playwright's.

    ``troubles``: errors on the console and of scripts, what the Content-Security-Policy forbade, requests that failed,
    and requests to any other host. ``do`` is for whatever Playwright can that has no name here.
    """

    def __init__(self, chromium: Chromium, site: Site, context: BrowserContext) -> None:
        self._chromium = chromium
        self._site = site
        self._context = context
        self._expected: list[str] = []
        self.troubles: list[str] = []
        self._tab = chromium.do(self._open)

    @classmethod
    def opened(
        cls, chromium: Chromium, site: Site, width: int, height: int, *, dark: bool = False, staff: bool = False
    ) -> Page:
        """``staff``: somebody has logged in to the admin; once for all who want it, and nobody of them logs out."""
        context = chromium.do(
            chromium.browser.new_context,
            base_url=site.url,
            viewport={"width": width, "height": height},
            is_mobile=width < TELEPHONE,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
            storage_state=site.staff if staff else None,
        )
        page = cls(chromium, site, context)
        if staff and site.staff is None:
            page.log_in()
            site.staff = chromium.do(context.storage_state)
        return page

    def _open(self) -> Tab:
        self._context.set_default_timeout(PATIENCE)
        self._context.add_init_script(VIOLATIONS)
        tab = self._context.new_page()
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.troubles.append(f"an error: {error}"))
        tab.on("request", self._asked)
        tab.on("requestfailed", self._failed)
        return tab

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.troubles.append(f"on the console of {self._tab.url}: {message.text} ({message.location.get('url')})")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob", "about") and not request.url.startswith(f"{self._site.url}/"):
            self.troubles.append(f"a request to another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # somebody went away before it was there
            self.troubles.append(f"a request that failed: {request.url} ({request.failure})")

    def expect(self, trouble: str) -> None:
        """Troubles in which this regular expression is found belong to the test, and one must come."""
        self._expected.append(trouble)

    def close(self) -> None:
        self._chromium.do(self._context.close)

    @property
    def complaints(self) -> list[str]:
        """The troubles that nobody expected, and the expected ones that did not come."""
        troubles = [one for one in self.troubles if not any(re.search(known, one) for known in self._expected)]
        missing = [known for known in self._expected if not any(re.search(known, one) for one in self.troubles)]
        return [*troubles, *(f"no such trouble came: {known}" for known in missing)]

    def do(self, function: Callable[[Tab], Result]) -> Result:
        """In the browser's thread."""
        return self._chromium.do(function, self._tab)

    def go(self, path: str) -> int:
        """→ the HTTP status."""
        answered = self.do(lambda tab: tab.goto(urljoin(f"{self._site.url}/", path)))
        return answered.status if answered else 0

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """The same page in another window."""

        def show(tab: Tab) -> None:
            tab.set_viewport_size({"width": width, "height": height})
            tab.emulate_media(color_scheme="dark" if dark else "light")
            tab.evaluate(SETTLED)

        self.do(show)

    def press(self, selector: str) -> None:
        """What leads to another page; ``click`` is for what does not."""

        def press(tab: Tab) -> None:
            with tab.expect_navigation():
                tab.click(selector)

        self.do(press)

    def click(self, selector: str) -> None:
        self.do(lambda tab: tab.click(selector))

    def fill(self, selector: str, text: str) -> None:
        """In place of what stands there."""
        self.do(lambda tab: tab.fill(selector, text))

    def reload(self) -> None:
        """Sends the form again that led to this page, if one did."""
        self.do(lambda tab: tab.reload())

    def back(self) -> None:
        """To the page before, as it was left."""
        self.do(lambda tab: tab.go_back(wait_until="commit"))  # what is still there is not loaded

    def text(self, selector: str = "body") -> str:
        """As it is seen."""
        return self.do(lambda tab: tab.inner_text(selector))

    def count(self, selector: str) -> int:
        return self.do(lambda tab: tab.locator(selector).count())

    def script(self, expression: str) -> Any:
        return self.do(lambda tab: tab.evaluate(expression))

    def wait(self, selector: str) -> None:
        """Until it is there to be seen."""
        self.do(lambda tab: tab.wait_for_selector(selector))

    @property
    def path(self) -> str:
        return self.do(lambda tab: urlsplit(tab.url).path)

    @property
    def overhang(self) -> int:
        """Pixels by which something sticks out of the window at the side."""
        return int(self.script("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def log_in(self) -> None:
        self.go("/admin/login/?next=/admin/")
        self.fill("[name=username]", self._site.user)
        self.fill("[name=password]", self._site.password)
        self.press("[type=submit]")
        assert self.path == "/admin/", self.text()

    def axe(self) -> list[str]:
        """Serious and critical faults of accessibility, one in a line."""
        return self.do(faults)

    def shot(self, name: str) -> Path:
        """Of the whole page, however long; kept for whoever wants to look."""
        path = SHOTS / f"{name}.png"
        self.do(lambda tab: tab.screenshot(path=path, full_page=True))
        return path
