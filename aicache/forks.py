"""A fork waits for what this app's own threads are doing in the database.

SQLite keeps in the process's memory what it has locked. A child that was forked in the middle of a statement takes that
for true for ever: whatever it writes fails, as "database is locked", the site's own too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Statements on SQLite take milliseconds, on a machine that is busy some more. Another database may hang, and a fork in
# the middle of its statement does no harm.
PATIENCE: Final = 2.0

_changed = threading.Condition()
_statements = 0
_forks = 0
_mine = threading.local()


@contextmanager
def held_off() -> Iterator[None]:
    """No fork happens in here, unless this takes long."""
    global _statements
    if getattr(_mine, "is_inside", False):  # a fork that waits for the outer one must not be waited for
        yield
        return
    changed = _changed
    with changed:
        changed.wait_for(lambda: not _forks, PATIENCE)
        _statements += 1
    _mine.is_inside = True
    try:
        yield
    finally:
        _mine.is_inside = False
        with changed:
            _statements -= 1
            changed.notify_all()


def _before_fork() -> None:
    global _forks
    with _changed:
        _forks += 1
        _changed.wait_for(lambda: not _statements, PATIENCE)


def _after_in_parent() -> None:
    global _forks
    with _changed:
        _forks -= 1
        _changed.notify_all()


def _after_in_child() -> None:
    """The parent's threads, and what they have under way, are not the child's."""
    global _changed, _statements, _forks, _mine
    _changed, _statements, _forks, _mine = threading.Condition(), 0, 0, threading.local()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
