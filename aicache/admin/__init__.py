"""The admin's pages: the dashboard, answers and the tags that they hang on, invalidations, idempotency keys."""

from __future__ import annotations

from aicache.admin.dashboard import DashboardAdmin
from aicache.admin.entries import EntryAdmin
from aicache.admin.idempotency import IdempotencyAdmin
from aicache.admin.invalidations import InvalidationAdmin
from aicache.admin.tags import TagAdmin

__all__ = ["DashboardAdmin", "EntryAdmin", "IdempotencyAdmin", "InvalidationAdmin", "TagAdmin"]
