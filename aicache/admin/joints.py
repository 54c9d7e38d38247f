"""What is said together: each language has its own marks between clauses and between sentences."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from django.utils.translation import gettext as _


def clauses(*told: str) -> str:
    return _joined(told, _("%(before)s; %(after)s"))


def sentences(*told: str) -> str:
    return _joined(told, _("%(before)s %(after)s"))


def _joined(told: Iterable[str], pattern: str) -> str:
    given = [each for each in told if each]
    return reduce(lambda before, after: pattern % {"before": before, "after": after}, given) if given else ""
