"""A form that was sent again with something else in it, in words for a visitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

import aicache

# The first that differs is the one that the visitor changed: another language changes the rest too.
DIFFERS: Final[dict[str, str | Promise]] = {
    "body.messages": _("This form had been sent before, with another question in it: yours was asked as a new one."),
    "locale": _("This form had been sent before, in another language: it was asked as a new one."),
    "body.system": _("This form had been sent before, and an article has changed since: it was asked as a new one."),
    "": _("This form had been sent before, with something else in it: it was asked as a new one."),
}


@dataclass(frozen=True, slots=True)
class Conflict:
    """``parts``: of the request, as aicache names them."""

    words: str | Promise
    parts: tuple[str, ...]

    @classmethod
    def of(cls, conflict: aicache.IdempotencyConflict) -> Conflict:
        found = (words for name, words in DIFFERS.items() if any(part.startswith(name) for part in conflict.parts))
        return cls(next(found, DIFFERS[""]), conflict.parts)
