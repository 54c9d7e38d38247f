"""A stream that is read in threads: driven by who reads it, or by a thread that helps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from inspect import GEN_SUSPENDED, getgeneratorstate
from threading import get_ident
from typing import Any, Final

from aicache.core.driver import HANDED, SLOW, drive
from aicache.core.operations import Flow, Operation, Unavailable
from aicache.core.records import Served
from aicache.core.streaming import Begin, Left, Pull, Withhold
from aicache.reading.passage import AHEAD, Conclude, Passage, closed

# Who is interrupted is waited for, so that who has left finds its call ended; it may not be to be interrupted.
PROMPT: Final = 0.5


class Reading(Passage):
    """For threads. ``perform`` performs the flow's operations."""

    def __init__(self, flow: Flow, perform: Callable[[Any], Any], begin: Begin) -> None:
        super().__init__(flow, begin)
        self._perform = perform
        # A piece has come or been taken, or somebody drives no more.
        self._moved = threading.Condition(threading.Lock())
        self._driver: int | None = None  # the thread that drives it now
        self._interrupted = self._is_leaving = False

    def begin(self, conclude: Conclude) -> None:
        """Before anything else: from now on it may be driven for others."""
        self._conclude = conclude
        if self.is_own:
            self._live.followed = self._help
            if self._is_followed:
                self._help()

    def read(self) -> bytes | None:
        """The next bytes; None at the end. Raises what upstream raised."""
        while not self._pieces:
            # Who waits for a piece must not wait for the one who drives: that one may be at the next piece already.
            with self._driving(lambda: not self._pieces and not self._is_over) as drives:
                if drives:
                    self._take_a_step()
            if self._is_over and not self._pieces:
                self._outcome()
                return None
        with self._moved:
            piece = self._taken()
            self._moved.notify_all()
        return piece

    def leave(self) -> None:
        """The caller reads no more. Does not wait for upstream."""
        drives = False
        try:
            with self._moved:
                self._left = True
                if drives := self._is_free():
                    self._driver = get_ident()
                self._moved.notify_all()
            if drives:
                self._let_go()
        finally:
            if drives:
                self._drives_no_more()
        if drives:
            return
        if self._upstream is not None and not self._is_needed():  # whoever waits for upstream sees it, too late
            self._interrupted = True
            self._upstream.interrupt()
            with self._moved:
                self._moved.wait_for(lambda: self._is_over, PROMPT)

    @contextmanager
    def _driving(self, wanted: Callable[[], bool]) -> Iterator[bool]:
        """Nobody else drives it in here. Waits for that, for as long as it is ``wanted``: else → False."""
        drives = False
        try:
            with self._moved:
                self._moved.wait_for(lambda: self._is_free() or not wanted())
                if drives := wanted():
                    self._driver = get_ident()
            yield drives
        finally:
            if drives:
                self._drives_no_more()

    def _is_free(self) -> bool:
        """Nobody drives it, or this very thread does: it was interrupted as it was to give that up."""
        return self._driver in (None, get_ident())

    def _drives_no_more(self) -> None:
        self._driver = None
        with self._moved:
            self._moved.notify_all()

    def _take_a_step(self) -> None:
        try:
            self._advance()
            if self._left:
                self._let_go()
        except BaseException:
            self._error = None  # it is raised here, and once
            raise

    def _is_needed(self) -> bool:
        """While another thread drives the flow."""
        begin = self._begin
        if begin.drains or self._is_followed_here:
            return True
        try:
            return begin.leave is not None and bool(self._perform(begin.leave))
        except Unavailable:
            return False

    def run(self) -> Served | None:
        """To the end, for nobody. → what it came to, None where something was raised."""
        ends = self._run()
        self._work()
        return ends.pop() if ends else None

    def _let_go(self) -> None:
        self._forget()
        if not self._has_ended:
            self._is_leaving = True
            try:
                self._advance(self._quit)
            finally:
                self._is_leaving = False
            if not self._has_ended:
                self._help()
        if self._has_ended:
            self._close()

    def _advance(self, resume: Callable[[], Operation] | None = None) -> None:
        """Raises what was raised in it, such as Ctrl-C or a soft time limit; who reads meets it, whoever drives."""
        try:
            if self._has_ended:
                self._pass_on()
            else:
                self._came_to(drive(self._flow, self._performed, resume or self._go_on, stops=self._stops))
        except Left as left:  # its flow has been collected already, with whoever dropped it
            self._ended(left)
        except BaseException as error:
            self._tell_flow(error)
            self._ended(error)
            raise
        finally:
            if self._is_over:
                self._close()

    def _tell_flow(self, error: BaseException) -> None:
        """An interruption between two operations is not the flow's yet, and others wait for what it leads."""
        if getgeneratorstate(self._flow) == GEN_SUSPENDED:
            raised_in = error.__traceback__
            with suppress(BaseException):
                drive(self._flow, self._perform, lambda: self._flow.throw(error), stops=lambda _: False)
            error.__traceback__ = raised_in  # else it holds this very frame, and all that the flow held

    def _stops(self, operation: Operation) -> bool:
        """Nobody who leaves is to wait for upstream."""
        return isinstance(operation, HANDED) or (self._is_leaving and isinstance(operation, SLOW))

    def _performed(self, operation: Operation) -> Any:
        if isinstance(operation, Withhold):
            self._withheld += operation.piece
            return None
        try:
            return self._perform(operation)
        except Exception as error:
            if self._interrupted and isinstance(operation, Pull):
                raise Left from error
            raise

    def _pass_on(self) -> None:
        """What comes after the end of the message."""
        piece = None if self._upstream is None else self._upstream.pull()
        if piece is None:
            self._is_over = True
        else:
            self._add(piece)

    def _close(self) -> None:
        self._is_over = True
        if self._upstream is not None:
            closed(self._upstream)

    def _help(self) -> None:
        """Drives it from now on, whether the caller does or not."""
        with self._handing:
            first, self._has_help = not self._has_help and not self._has_ended, True
        if first:
            try:
                threading.Thread(target=self._work, name="aicache-stream", daemon=True).start()
            except RuntimeError:  # no thread to be had: the caller drives it
                self._has_help = False

    def _work(self) -> None:
        while not self._is_over and (self._left or not self._has_ended):  # what comes after that is the caller's own
            with self._driving(lambda: True):
                if self.is_done:
                    return
                with suppress(BaseException):
                    self._advance(self._quit if self._must_ask_again() else None)
                if self._left:
                    self._forget()
                    if self._has_ended:
                        self._close()
            with self._moved:
                self._moved.wait_for(lambda: self._size <= AHEAD or self._left or not self._live.outgrown)
