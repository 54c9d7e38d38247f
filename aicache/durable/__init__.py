"""What outlives Redis, in the database: copies of answers, and idempotency keys.

On connections of its own, in autocommit: the caller's transaction is neither seen, nor aborted, nor waited for.
"""

from __future__ import annotations

from aicache.durable.place import durable_of
from aicache.durable.work import Durable, Work, counting
from aicache.durable.writer import get_writer

__all__ = ["Durable", "Work", "counting", "durable_of", "get_writer"]
