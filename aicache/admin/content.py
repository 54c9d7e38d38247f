"""What was asked and answered: whoever may look at a page may read that only by a right of its own."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest

PERMISSION: Final = "aicache.view_content"
COLUMNS: Final = frozenset({"payload", "request", "circumstances", "parts"})
"""That hold it. A row that is found by one of these, or is not, tells what stands there."""


def may_read(request: HttpRequest) -> bool:
    return request.user.has_perm(PERMISSION)


def may_look_up(request: HttpRequest, lookup: str) -> bool:
    return lookup.split("__")[0] not in COLUMNS or may_read(request)
