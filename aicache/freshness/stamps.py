"""The way to the store: what has been committed gets its stamps drawn anew."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from typing import Any, Protocol

from aicache import signals
from aicache.core.operations import Unavailable
from aicache.core.tags import Tag

logger = logging.getLogger("aicache")


class Stamping(Protocol):
    def stamp(self, tags: Collection[Tag]) -> None:
        """Raises Unavailable."""


_get_store: Callable[[], Stamping] | None = None
_lock = threading.Lock()
_trouble = ""


def use(get_store: Callable[[], Stamping]) -> None:
    global _get_store
    _get_store = get_store


def apply(tags: Collection[Tag], *, using: str, cause: str) -> None:
    """Draws new stamps. Raises Unavailable, and nothing else: then they are pending."""
    told: dict[str, Any] = {"tags": tuple(tags), "using": using, "cause": cause}
    try:
        if _get_store is None:
            raise Unavailable("not_started")
        _get_store().stamp(tags)
    except Unavailable as error:
        _changed(str(error) or "unavailable")
        signals.invalidation_pending.tell(**told)
        raise
    except Exception as error:
        if _changed(type(error).__name__):
            logger.exception("drawing new stamps failed")
        signals.invalidation_pending.tell(**told)
        raise Unavailable("error") from error
    _changed("")
    signals.tag_invalidated.tell(**told)


def _changed(trouble: str) -> bool:
    """One line for each change of state, not one for each save. Returns whether it was one."""
    global _trouble
    with _lock:
        before, _trouble = _trouble, trouble
    if bool(before) == bool(trouble):
        return False
    if trouble:
        logger.warning("invalidations are pending: no stamps can be drawn (%s)", trouble)
    else:
        logger.warning("stamps are drawn again")
    return True


def _forget_after_fork() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
