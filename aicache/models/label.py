"""What rows are called, for people."""

from __future__ import annotations

from typing import Final

LONGEST_LABEL: Final = 255
"""Characters; longer ones are cut to fit."""
