"""What stands where a name would, in its reader's language."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy

LABELS: Final = {
    "(nobody)": gettext_lazy("(nobody)"),
    "(everybody)": gettext_lazy("(everybody)"),
    "(the site)": gettext_lazy("(the site)"),
    "(others)": gettext_lazy("(others)"),
}
"""Those of ``ledger.place`` and ``ledger.words``."""


def called(label: str) -> str:
    return str(LABELS.get(label, label))


def meant(given: str) -> str:
    """The label that somebody has typed as they were shown it."""
    return {str(shown): label for label, shown in LABELS.items()}.get(given, given)
