"""axe-core: what keeps people out who do not see, or hold no mouse."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page as Tab

GRAVE = ("serious", "critical")

# What the templates of Django's own admin have, on every site.
DJANGOS = (
    "label-title-only: #searchbar: ",
    "link-in-text-block: .breadcrumbs > ",
    'link-in-text-block: a[href="?"]: ',  # how many were found, of how many
    'link-in-text-block: .small > a[href="?"]: ',
)

# With `preload`, it would put styles into the page, which a strict policy forbids.
OPTIONS = {"resultTypes": ["violations"], "iframes": False, "preload": False}


def faults(tab: Tab) -> list[str]:
    """The serious and critical ones, one in a line. For the browser's thread."""
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(AXE_SCRIPT)
    found = tab.evaluate("(options) => axe.run(options).then((found) => found.violations)", OPTIONS)
    grave = [
        f"{fault['id']}: {' '.join(map(str, node['target']))}: {_why(node)}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]
    return [fault for fault in grave if not fault.startswith(DJANGOS)]


def _why(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])
