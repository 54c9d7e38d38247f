"""Manages the caching of Claude calls for a Django site. See README.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aicache.calls import Calls, info
    from aicache.claude import wrap
    from aicache.context import scope
    from aicache.core.callinfo import CallInfo
    from aicache.errors import IdempotencyConflict
    from aicache.freshness.registry import register
    from aicache.invalidation import invalidate
    from aicache.memo import remember
    from aicache.tenants import GLOBAL

__version__ = "0.1.0"

__all__ = [
    "GLOBAL",
    "CallInfo",
    "Calls",
    "IdempotencyConflict",
    "info",
    "invalidate",
    "register",
    "remember",
    "scope",
    "wrap",
]

_HOMES = {
    "GLOBAL": "aicache.tenants",
    "CallInfo": "aicache.core.callinfo",
    "Calls": "aicache.calls",
    "IdempotencyConflict": "aicache.errors",
    "info": "aicache.calls",
    "invalidate": "aicache.invalidation",
    "register": "aicache.freshness.registry",
    "remember": "aicache.memo",
    "scope": "aicache.context",
    "wrap": "aicache.claude",
}


def __getattr__(name: str) -> Any:
    """Lazily: importing the app must neither need configured settings nor the SDK."""
    if name not in _HOMES:
        raise AttributeError(f"module 'aicache' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
