"""One page, looked at on a desk and on a telephone, by day and by night."""

from __future__ import annotations

from tests.browser.page import Page

SIZES = ((1440, 900), (390, 844))
SCHEMES = ("light", "dark")


def fit(page: Page, name: str) -> None:
    """AssertionError: something sticks out at the side, or axe finds a grave fault; and a screenshot of each look."""
    found = {}
    for width, height in SIZES:
        for scheme in SCHEMES:
            page.show(width, height, dark=scheme == "dark")
            page.shot(f"{name}-{width}-{scheme}")
            faults = page.axe()
            if overhang := page.overhang:
                faults.append(f"{overhang} pixels stick out")
            if faults:
                found[f"{width} {scheme}"] = faults
    assert found == {}, found
