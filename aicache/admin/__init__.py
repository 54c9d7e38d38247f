"""The admin's pages: what was invalidated, the tags that answers hang on, and purging them."""

from __future__ import annotations

from aicache.admin.invalidations import InvalidationAdmin
from aicache.admin.tags import TagAdmin

__all__ = ["InvalidationAdmin", "TagAdmin"]
