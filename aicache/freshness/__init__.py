"""From a saved row to a dead answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def start(get_store: Callable[[], Any]) -> None:
    """Once the models are loaded. ``get_store`` is asked at each commit. Raises ArgumentError for bad registrations."""
    from aicache.freshness import registry, stamps

    stamps.use(get_store)
    registry.verify()
