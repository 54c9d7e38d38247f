"""What happened to each call, for those who want to know."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from typing import Any, Final

from aicache.core.callinfo import CallInfo
from aicache.errors import WrongKind

ATTRIBUTE: Final = "_aicache"  # on a parsed message, beside the SDK's own _request_id: it is not serialised
EXTENSION: Final = "aicache"  # in the extensions of an HTTP response


class Calls:
    """The calls made inside a scope, in the order in which they ended: ``last``, iteration, ``len()``.

    A call is in it once, with its final status, however often the SDK retried it. Safe to read while calls go on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_call: dict[str, CallInfo] = {}

    @property
    def last(self) -> CallInfo | None:
        """The call that ended last; None before the first."""
        with self._lock:
            return next(reversed(self._by_call.values()), None)

    def __iter__(self) -> Iterator[CallInfo]:
        with self._lock:
            return iter(list(self._by_call.values()))

    def __len__(self) -> int:
        return len(self._by_call)

    def record(self, call: str, info: CallInfo) -> None:
        """A later attempt of the same call replaces the earlier one."""
        with self._lock:
            self._by_call.pop(call, None)
            self._by_call[call] = info

    def earlier(self, call: str) -> CallInfo | None:
        """What is known of a call by now."""
        with self._lock:
            return self._by_call.get(call)

    def __repr__(self) -> str:
        return f"<Calls: {', '.join(info.status for info in self) or 'none'}>"


def info(answer: Any) -> CallInfo:
    """What the cache did with the call that gave this answer: a message, a raw response or a stream.

    Raises WrongKind for anything else, a coroutine that was not awaited among them. A stream's final message is built
    anew by the SDK and carries none: ask the stream.
    """
    found = getattr(answer, ATTRIBUTE, None)
    if isinstance(found, CallInfo):
        return found
    for name in ("http_response", "response"):
        found = getattr(getattr(answer, name, None), "extensions", {}).get(EXTENSION)
        if isinstance(found, CallInfo):
            return found
    if inspect.isawaitable(answer):
        raise WrongKind(f"info() was given {answer!r}: the client is async, await the call first")
    raise WrongKind(
        f"info() was given {type(answer).__name__!r}, which carries no CallInfo; accepted: what a client from "
        "aicache.wrap() returned for a call of POST /v1/messages"
    )
