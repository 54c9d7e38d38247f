"""What has been read of a stream and not taken yet, and how it ended."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aicache.core.live import LEAST_WINDOW
from aicache.core.operations import Flow, Operation
from aicache.core.records import Opened, Served, Upstream
from aicache.core.streaming import Begin, Give, Left

logger = logging.getLogger("aicache")

# A caller who does not read is not read ahead of by more, whoever else would like to go on.
AHEAD: Final = 16 * LEAST_WINDOW
# Where a caller has left, and others seemed to need the rest, it is asked again this often whether they still do.
ASK_AGAIN: Final = 1.0

Conclude = Callable[[Served | BaseException], BaseException | None]
"""Told how the call ended, once: with what was served, or what was raised. What it returns is raised to the caller."""


class Passage:
    """What both kinds have. ``served``: what the caller is given to begin with."""

    def __init__(self, flow: Flow, begin: Begin) -> None:
        self.served = begin.served
        self._conclude: Conclude = lambda end: None
        self._flow = flow
        self._begin = begin
        self._live = begin.live
        self._upstream: Upstream | None = None
        if begin.served.own is not None and isinstance(opened := begin.served.own.outcome, Opened):
            self._upstream = opened.upstream
        self._pending: Operation | None = None  # what the flow was left with that had not been done
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._withheld = b""
        self._error: BaseException | None = None
        self._left = self._has_ended = self._is_over = self._has_help = False
        self._asked = 0.0
        self._handing = threading.Lock()

    @property
    def is_own(self) -> bool:
        """Whether it is the caller's own call, and not somebody else's that it follows."""
        return self._upstream is not None

    @property
    def _is_followed(self) -> bool:
        """Whether others are known to need it, or were a moment ago."""
        return self.is_own and self._live.is_followed

    @property
    def _is_followed_here(self) -> bool:
        return self.is_own and self._live.is_followed_here

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be let go of."""
        return self._is_over

    def _run(self) -> list[Served]:
        """For nobody: there is no caller who could leave. → where it will be what it came to."""
        self._left = self._has_help = True
        self._asked = float("inf")
        ends: list[Served] = []
        self._conclude = lambda end: ends.append(end) if isinstance(end, Served) else None
        return ends

    def _go_on(self) -> Operation:
        pending, self._pending = self._pending, None
        return self._flow.send(None) if pending is None else pending

    def _quit(self) -> Operation:
        self._pending, self._asked = None, time.monotonic()
        return self._flow.throw(Left())

    def _add(self, piece: bytes) -> None:
        if piece and not self._left:
            with self._handing:
                self._pieces.append(piece)
                self._size += len(piece)

    def _taken(self) -> bytes:
        with self._handing:
            piece = self._pieces.popleft()
            self._size -= len(piece)
        return piece

    def _forget(self) -> None:
        """What its caller does not want any more. An error holds what it was raised in, such as a lease."""
        with self._handing:
            self._pieces.clear()
            self._size = 0
            self._error = None

    def _came_to(self, handed: Any) -> None:
        """The flow has handed something over, stopped before something slow, or returned."""
        match handed:
            case Give():
                self._add(handed.piece)
            case Served():
                self._ended(handed)
            case _:
                self._pending = handed

    def _ended(self, end: Served | BaseException) -> None:
        error = end if isinstance(end, BaseException) else None
        with self._handing:
            first, self._has_ended = not self._has_ended, True
        if first:
            error = self._conclude(end) or error
        self._error = error
        self._live.followed = None  # that was a cycle
        with suppress(Exception):
            self._flow.close()  # who keeps this keeps no lease
        self._add(self._withheld)
        self._is_over = self._is_over or error is not None or self._upstream is None or self._left

    def _must_ask_again(self) -> bool:
        late = time.monotonic() - self._asked > ASK_AGAIN
        return self._left and not self._has_ended and late and not self._is_followed

    def _outcome(self) -> None:
        """At the end, and once: raises what went wrong."""
        error, self._error = self._error, None
        if error is not None:
            raise error


def closed(upstream: Upstream) -> None:
    """Whatever is the matter: its caller has what it came for."""
    try:
        upstream.close()
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        logger.debug("closing a stream failed: %r", error)


async def aclosed(upstream: Upstream) -> None:
    """As ``closed``, in a task."""
    try:
        await upstream.close()
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        logger.debug("closing a stream failed: %r", error)
