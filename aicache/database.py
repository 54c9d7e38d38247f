"""The database apart from the caller's connection: its transaction is neither seen, nor aborted, nor waited for."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.util import Finalize
from typing import Any, Final, ParamSpec, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.db.backends.signals import connection_created

from aicache.forks import held_off

SQLITE: Final = ("sqlite3", "spatialite")

P = ParamSpec("P")
R = TypeVar("R")

# What a database that does not answer may cost a caller.
BUDGET: Final = 0.5
# And one that nobody needs an answer of: it may be far away, and only pages and drains ask it.
PATIENCE: Final = 1.0
# Each thread has a connection of its own, for as long as CONN_MAX_AGE says.
THREADS: Final = 4
# Who waits for a turn waits on while others get theirs, for so many budgets at most.
LONGEST: Final = 10


class Turn(Future[R]):
    """Work for a thread. ``line``: those who wait for the same threads."""

    def __init__(self, line: Threads) -> None:
        super().__init__()
        self._line = line
        self._put_at = time.monotonic()
        self._began_at: float | None = None

    def begin(self) -> None:
        self._began_at = self._line.moved_at = time.monotonic()

    def left(self, budget: float) -> float:
        """Seconds for which it is worth waiting, where a database that answers nothing may cost ``budget``."""
        since = self._began_at or max(self._put_at, self._line.moved_at)
        return min(since + budget, self._put_at + LONGEST * budget) - time.monotonic()


class Threads:
    """At most so many, started as they are needed. Daemons: a database that hangs keeps no process from its end.

    Those of ``ThreadPoolExecutor`` are waited for as the interpreter ends.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self.waiting: deque[tuple[Turn[Any], Callable[[], Any]]] = deque()
        self.moved_at = 0.0
        self._most = most
        self._idle = 0
        self._changed = threading.Condition()

    def submit(self, function: Callable[[], R]) -> Turn[R]:
        """Raises nothing: where there is no thread to be had, the future does."""
        future: Turn[R] = Turn(self)
        with self._changed:
            # While all of them hang, callers come, and give up, in this order.
            while self.waiting and self.waiting[0][0].cancelled():
                self.waiting.popleft()
            self.waiting.append((future, function))
            if self._idle < len(self.waiting) and self.count < self._most:
                try:
                    _start(self._work)
                except RuntimeError as error:
                    if not self.count:
                        self.waiting.pop()
                        future.set_exception(error)
                else:
                    self.count += 1
            self._changed.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self.waiting:
                    self._changed.wait()
                self._idle -= 1
                work = self.waiting.popleft()
            work[0].begin()
            _carry_out(*work)
            del work  # nobody else may want it any more


def _start(work: Callable[[], None]) -> None:
    """Raises RuntimeError: there are no more threads on this machine, or none any more as the interpreter ends."""

    def run() -> None:
        on_connections_of_its_own()
        work()

    threading.Thread(target=run, name="aicache-database", daemon=True).start()


def _carry_out(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)


_threads = Threads(THREADS)
_asked: dict[str, Future[Any]] = {}


def apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Turn[R]:
    """Runs a function that uses the ORM in another thread, on connections of that thread, in autocommit.

    Inside a test case's transaction it runs here: nobody else can see what is in there. Raises nothing itself.
    """

    def run() -> R:
        with unforked():
            try:
                return function(*args, **kwargs)
            finally:
                leave()

    if not in_test():
        return _threads.submit(run)
    done: Turn[R] = Turn(_threads)
    try:
        done.set_result(function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        done.set_exception(error)
    return done


def ask(using: str, question: Callable[[str], R]) -> R:
    """What a database answers that nobody may have to wait for: within PATIENCE, or TimeoutError.

    Raises what it raises, and RuntimeError where there is no thread to be had. However often one is asked that hangs,
    it holds one thread, and none of those that strict calls need.
    """
    if in_test():
        return question(using)
    earlier = _asked.get(using)
    if earlier is not None and not _ends(earlier):
        raise TimeoutError(f"the database {using!r} does not answer")
    answer: Future[R] = Future()

    def run() -> R:
        with unforked():
            try:
                return question(using)
            finally:
                leave(whole=True)

    _start(lambda: _carry_out(answer, run))
    _asked[using] = answer
    if not _ends(answer):
        raise TimeoutError(f"the database {using!r} does not answer within {PATIENCE} s")
    return answer.result()


def _ends(answer: Future[Any]) -> bool:
    return bool(wait([answer], PATIENCE).done)


def unforked() -> AbstractContextManager[None]:
    """No fork happens in here, where that would do harm."""
    engines = (chosen.get("ENGINE", "") for chosen in connections.settings.values())
    return held_off() if any(engine.endswith(SQLITE) for engine in engines) else nullcontext()


def leave(*, whole: bool = False) -> None:
    """Closes what the site's CONN_MAX_AGE says of this thread's connections, or the ``whole`` of them."""
    with unforked():
        close_old_connections()
        known: list[Any] = list(connections.all(initialized_only=True))
        for connection in known:
            # Of a database in memory Django keeps the connection; nobody but the thread itself could close it later.
            if whole or _is_of_tests(connection) or (connection.vendor == "sqlite" and connection.is_in_memory_db()):
                BaseDatabaseWrapper.close(connection)


def _is_of_tests(connection: Any) -> bool:
    """PostgreSQL drops no database that somebody is connected to, and the test runner does not know our threads."""
    chosen = connection.settings_dict
    return str(chosen["NAME"]).startswith(str(chosen["TEST"].get("NAME") or TEST_DATABASE_PREFIX))


_here = threading.local()


def on_connections_of_its_own() -> None:
    """This thread is ours: each statement of its connections is committed, whatever AUTOCOMMIT says of the site's."""
    _here.is_ours = True


def _commit_by_itself(connection: Any, **_: Any) -> None:
    if getattr(_here, "is_ours", False) and not connection.autocommit:
        connection.set_autocommit(True)


connection_created.connect(_commit_by_itself, dispatch_uid="aicache.database")


def in_test() -> bool:
    """Whether this thread is inside a test case's transaction, which nobody else sees into."""
    return any(
        of_test(block) for connection in connections.all(initialized_only=True) for block in connection.atomic_blocks
    )


def of_test(block: Any) -> bool:
    """Whether this ``atomic`` is the one that Django's TestCase wraps each test in."""
    return bool(getattr(block, "_from_testcase", False))


def in_memory(using: str) -> bool:
    """Whether it is an SQLite database in memory: no other process can read it."""
    connection: Any = connections[using]
    return bool(connection.vendor == "sqlite" and connection.is_in_memory_db())


def at_exit(function: Callable[[], Any]) -> None:
    """Has it called as this process ends, be it one of ``multiprocessing``, which end without ``atexit``."""
    atexit.register(function)
    Finalize(None, function, exitpriority=10)


def _forget_after_fork() -> None:
    """The parent's threads are not the child's."""
    global _threads, _asked
    _threads, _asked = Threads(THREADS), {}


os.register_at_fork(after_in_child=_forget_after_fork)
