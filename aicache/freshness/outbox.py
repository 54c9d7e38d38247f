"""Invalidations, written in the transaction that causes them, and applied once it is committed."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

from django.db import connections, transaction
from django.utils import timezone

from aicache.conf import get_settings
from aicache.core.operations import Unavailable
from aicache.core.tags import EVERYBODY, Tag
from aicache.freshness import databases, stamps
from aicache.freshness.rows import Dying
from aicache.freshness.transactions import current, ensured

logger = logging.getLogger("aicache")

LONGEST_NAME: Final = 210
LONGEST_TEXT: Final = 255
AT_ONCE: Final = 500  # rows that one UPDATE names

# Connections with hooks of ours, of all threads; and those that were written to in this context, by any thread.
_busy: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_busy_lock = threading.Lock()
_written: ContextVar[tuple[weakref.ref[Any], ...]] = ContextVar("aicache_written", default=())


class Applying:
    """An on_commit hook, one for a transaction: draws the stamps of what was written in it. Never raises."""

    def __init__(self, using: str, cause: str, transaction: Any) -> None:
        self.using = using
        self.transaction = transaction
        self.cause = cause
        self.dying: Dying = {}
        self.ids: dict[Tag, int] = {}
        self.later: Dying = {}  # for which the transaction's own database has no table
        self.at: dict[Tag, int] = {}  # how many savepoints there had been when each was written
        self.by_hand = False  # the site commits, and Django runs no hooks then
        self.done = False
        self.__qualname__ = "aicache.freshness.outbox.Applying"  # Django names a failing hook by it

    def forget(self, sid: str) -> None:
        """What has been written since that savepoint. Django counts them, and ends their names with the count.

        Their rows are gone, and SQLite gives their numbers away again.
        """
        count = sid.rpartition("_x")[2]
        if not count.isdigit():  # somebody else's name: who knows what has been written since?
            self.at.clear()
            self.ids.clear()
            return
        for tag in [tag for tag, at in self.at.items() if at >= int(count)]:
            for kept in (self.at, self.dying, self.later, self.ids):
                kept.pop(tag, None)

    def __call__(self) -> None:
        self.done = True
        using, ids = self.using, list(self.ids.values())
        try:
            if self.later:
                using = get_settings().database
                with transaction.atomic(using=using):
                    ids = list(_insert(self.later, using, self.cause).values())
        except Exception:
            logger.exception("invalidations could not be kept in the database %r", using)
        if not self.dying:
            return
        try:
            stamps.apply(self.dying, using=self.using, cause=self.cause)
        except Unavailable:
            return
        try:
            mark(ids, using)
        except Exception:  # noqa: BLE001 - it is told
            _tell_unmarked()


def _tell_unmarked() -> None:
    logger.warning("invalidations were applied, but not marked so; the next drain will again", exc_info=True)


def write(tags: Dying, *, using: str, cause: str) -> None:
    """Keeps the invalidations in the open transaction, and applies them when it is committed.

    A tag that the transaction already holds costs nothing. Raises what the database does.
    """
    if not tags:
        return
    connection: Any = connections[using]
    with ensured(using):
        hook = _hook(connection, using, cause)
        new = {tag: tenant for tag, tenant in tags.items() if tag not in hook.at}
        if not new:
            return
        if databases.has_table(using):
            hook.ids |= _insert(new, using, cause)
        else:
            hook.later.update(new)
        hook.dying.update(new)
        hook.at.update(dict.fromkeys(new, connection.savepoint_state))


def _hook(connection: Any, using: str, cause: str) -> Applying:
    """The open transaction's."""
    block, savepoints = current(connection)
    for hook in _hooks(connection):
        if hook.transaction == block:
            return hook
    hook = Applying(using, cause, block)
    hook.by_hand = not connection.get_autocommit() and not (connection.in_atomic_block and connection.commit_on_exit)
    # Not by on_commit(), which refuses to where transactions are managed by hand, and lets an inner savepoint take the
    # hook with it. The site's own come later: one may fail and end them all, or ask for what has just been changed.
    # In a test, hooks are found by their place.
    entry = (savepoints, hook, True)
    if savepoints:
        connection.run_on_commit.append(entry)
    else:
        connection.run_on_commit.insert(0, entry)
    _watch(connection)
    with _busy_lock:
        _busy.add(connection)
    _written.set((*(ref for ref in _written.get() if ref() not in (None, connection)), weakref.ref(connection)))
    return hook


def _watch(connection: Any) -> None:
    """Hears of what Django tells no hook: savepoints that are rolled back, and commits by hand."""
    if "savepoint_rollback" in vars(connection):
        return
    roll_back, clean = connection.savepoint_rollback, connection.clean_savepoints
    commit, set_autocommit = connection.commit, connection.set_autocommit

    def savepoint_rollback(sid: str) -> None:
        roll_back(sid)
        for hook in _hooks(connection):
            hook.forget(sid)

    def clean_savepoints() -> None:
        if not _hooks(connection):  # or those to come would have the names of those before
            clean()

    def committed_by_hand() -> bool:
        due = [hook for hook in _hooks(connection) if hook.by_hand]
        for hook in due:
            hook()
        connection.run_on_commit = [entry for entry in connection.run_on_commit if entry[1] not in due]
        return bool(due)

    def commit_by_hand() -> None:
        commit()
        if committed_by_hand():
            try:
                commit()  # what they have marked
            except Exception:  # noqa: BLE001 - it is told
                _tell_unmarked()
                with contextlib.suppress(Exception):
                    connection.rollback()

    def set_autocommit_again(autocommit: bool, *args: Any, **kwargs: Any) -> None:
        set_autocommit(autocommit, *args, **kwargs)
        if autocommit:  # by which SQLite commits what is open
            committed_by_hand()

    connection.savepoint_rollback = savepoint_rollback
    connection.clean_savepoints = clean_savepoints
    connection.commit = commit_by_hand
    connection.set_autocommit = set_autocommit_again


def _hooks(connection: Any) -> list[Applying]:
    # Another thread may be looking, while this one waits for it; the list itself may not be ours to lock.
    return [hook for _, hook, _ in list(connection.run_on_commit) if isinstance(hook, Applying) and not hook.done]


def left_behind(using: str) -> list[Applying]:
    """The hooks of transactions that ended in a test case's own, which is never committed."""
    connection = connections[using]
    open_now = connection.atomic_blocks
    return [hook for hook in _hooks(connection) if hook.transaction is not None and hook.transaction[0] not in open_now]


def uncommitted(tags: Sequence[Tag]) -> Tag | None:
    """The first of these tags that an open transaction of this thread, or of this context, has invalidated."""
    if not _busy:
        return None
    with _busy_lock:
        busy = list(_busy)
    mine = [ref() for ref in _written.get()]
    thread = threading.get_ident()
    for connection in busy:
        hooks = _hooks(connection)
        if not hooks:
            _idle(connection)
        elif connection in mine or connection._thread_ident == thread:
            for tag in tags:
                if any(tag in hook.dying for hook in hooks):
                    return tag
    return None


def _idle(connection: Any) -> None:
    with _busy_lock:
        if not _hooks(connection):
            _busy.discard(connection)


def _insert(tags: Dying, using: str, cause: str) -> dict[Tag, int]:
    from aicache.models import Invalidation

    now = timezone.now()
    rows = [
        Invalidation(
            digest=tag.digest,
            tag=storable(tag.name, LONGEST_NAME),
            tenant=storable(tenant, LONGEST_TEXT),
            everybody=tag.tenant == EVERYBODY,
            cause=storable(cause, LONGEST_TEXT),
            made_at=now,
        )
        for tag, tenant in tags.items()
    ]
    if connections[using].features.can_return_rows_from_bulk_insert:
        Invalidation.objects.using(using).bulk_create(rows)
    else:
        for row in rows:
            row.save(using=using, force_insert=True)
    databases.wrote(using)
    return {tag: row.id for tag, row in zip(tags, rows, strict=True)}


def storable(text: str, longest: int) -> str:
    """PostgreSQL takes no NUL."""
    return text.replace("\0", "\ufffd")[:longest]


def mark(ids: Iterable[int], using: str) -> None:
    """As applied, in autocommit unless a transaction is open."""
    from aicache.models import Invalidation

    ids = list(ids)
    now = timezone.now()
    for start in range(0, len(ids), AT_ONCE):
        # A savepoint where there is a transaction, as there is in a test case: its own must survive an error here.
        guard = transaction.atomic(using=using) if connections[using].in_atomic_block else contextlib.nullcontext()
        with guard:
            some = Invalidation.objects.using(using).filter(id__in=ids[start : start + AT_ONCE])
            some.update(applied_at=now)


def _forget_after_fork() -> None:
    """Another thread of the parent may have held the lock."""
    global _busy_lock
    _busy_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
