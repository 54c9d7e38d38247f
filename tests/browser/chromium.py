"""A headless Chromium, steered by Playwright in a thread of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from playwright.sync_api import Browser, Playwright, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    # A page that asks for anything beyond this machine is told of, and gets nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Who goes back finds the page as it was left, with the form that was sent: so do visitors.
UNWANTED = ("--disable-back-forward-cache",)

Result = TypeVar("Result")


class Chromium:
    """``do`` calls a function in the browser's thread, where all that Playwright gave is at home; and nowhere else.

    Playwright's event loop counts as running in whatever thread it was started in, for as long as it is open: there,
    Django's ORM and ``asyncio.run`` would refuse to work, also in tests that have nothing to do with it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._playwright: Playwright
        self.browser: Browser

    def do(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        return self._thread.submit(function, *arguments, **options).result()

    def __enter__(self) -> Self:
        self._playwright = self.do(lambda: sync_playwright().start())
        self.browser = self.do(
            self._playwright.chromium.launch, executable_path=CHROMIUM, args=FLAGS, ignore_default_args=UNWANTED
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.do(self.browser.close)
        finally:
            self.do(self._playwright.stop)
            self._thread.shutdown()
