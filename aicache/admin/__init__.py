"""The admin's pages: answers and the tags that they hang on, what was invalidated, idempotency keys; and purging."""

from __future__ import annotations

from aicache.admin.entries import EntryAdmin
from aicache.admin.idempotency import IdempotencyAdmin
from aicache.admin.invalidations import InvalidationAdmin
from aicache.admin.tags import TagAdmin

__all__ = ["EntryAdmin", "IdempotencyAdmin", "InvalidationAdmin", "TagAdmin"]
