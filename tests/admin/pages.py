"""What a page says, as somebody reads it."""

from __future__ import annotations

import html
import re
from typing import Any

ENTRIES = "/admin/aicache/cacheentry/"
KEYS = "/admin/aicache/idempotencykey/"
INVALIDATIONS = "/admin/aicache/invalidation/"
TAGS = "/admin/aicache/invalidationtag/"
PURGE = f"{TAGS}purge/"
PURGE_ENTRIES = f"{ENTRIES}purge/"
WRONG = f"{ENTRIES}wrong/"
RIGHT = f"{ENTRIES}right/"
FORGET = f"{KEYS}forget/"


def text(response: Any) -> str:
    """Without its markup, in one line."""
    assert response.status_code == 200, (response.status_code, response.get("Location"))
    page = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<[^>]+>", " ", response.content.decode())
    return " ".join(html.unescape(page).split())


def rows(response: Any) -> list[list[str]]:
    """The cells of the list, without the boxes to tick."""
    (body,) = re.findall(r"(?s)<tbody>(.*?)</tbody>", response.content.decode()) or [""]
    found = []
    for row in re.findall(r"(?s)<tr>(.*?)</tr>", body):
        cells = re.findall(r'(?s)<t[hd] class="field-[^>]*>(.*?)</t[hd]>', row)
        found.append([" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells])
    return found


def hidden(response: Any) -> dict[str, list[str]]:
    """What the confirmation would send."""
    form = response.content.decode().split("delete-confirmation", 1)[1]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form):
        found.setdefault(name, []).append(html.unescape(value))
    found.pop("csrfmiddlewaretoken", None)
    return found
