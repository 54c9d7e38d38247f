"""The database apart from the caller's connection: its transaction is neither seen, nor aborted, nor waited for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Final, ParamSpec, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import TEST_DATABASE_PREFIX

P = ParamSpec("P")
R = TypeVar("R")

# What a database that does not answer may cost a caller.
BUDGET: Final = 0.5
# And one that nobody needs an answer of: it may be far away, and only pages and drains ask it.
PATIENCE: Final = 1.0
# Each thread has a connection of its own, for as long as CONN_MAX_AGE says.
THREADS: Final = 4


class Threads:
    """At most so many, started as they are needed. Daemons: a database that hangs keeps no process from its end.

    Those of ``ThreadPoolExecutor`` are waited for as the interpreter ends.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._most = most
        self._idle = 0
        self._changed = threading.Condition()

    def submit(self, function: Callable[[], R]) -> Future[R]:
        """Raises nothing: where there is no thread to be had, the future does."""
        future: Future[R] = Future()
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
            _carry_out(*work)
            del work  # nobody else may want it any more


def _start(work: Callable[[], None]) -> None:
    """Raises RuntimeError: there are no more threads on this machine, or none any more as the interpreter ends."""
    threading.Thread(target=work, name="aicache-database", daemon=True).start()


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


def apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Runs a function that uses the ORM in another thread, on connections of that thread, in autocommit.

    Inside a test case's transaction it runs here: nobody else can see what is in there. Raises nothing itself.
    """

    def run() -> R:
        try:
            return function(*args, **kwargs)
        finally:
            leave()

    if not _is_in_test():
        return _threads.submit(run)
    done: Future[R] = Future()
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
    if _is_in_test():
        return question(using)
    earlier = _asked.get(using)
    if earlier is not None and not _ends(earlier):
        raise TimeoutError(f"the database {using!r} does not answer")
    answer: Future[R] = Future()

    def run() -> R:
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


def leave(*, whole: bool = False) -> None:
    """Closes what the site's CONN_MAX_AGE says of this thread's connections, or the ``whole`` of them."""
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


def of_test(block: Any) -> bool:
    """Whether this ``atomic`` is the one that Django's TestCase wraps each test in."""
    return bool(getattr(block, "_from_testcase", False))


def _is_in_test() -> bool:
    return any(
        of_test(block) for connection in connections.all(initialized_only=True) for block in connection.atomic_blocks
    )


def _forget_after_fork() -> None:
    """The parent's threads are not the child's."""
    global _threads, _asked
    _threads, _asked = Threads(THREADS), {}


os.register_at_fork(after_in_child=_forget_after_fork)
