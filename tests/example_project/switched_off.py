"""The example project with its cache switched off: none of its promises can be kept."""

from __future__ import annotations

from example_project.settings import *  # noqa: F403
from example_project.settings import AICACHE as KEPT

AICACHE = {**KEPT, "ENABLED": False}
