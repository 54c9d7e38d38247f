"""Whether the SDK tries again. It does not say so beforehand, and after its last attempt nobody is asked any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anthropic

from aicache.core.records import Served

ASKED_AGAIN: Final = frozenset({408, 409, 429})
RETRYABLE: Final = (anthropic.APIConnectionError, getattr(anthropic, "RetryableError", ()))


def is_tried_again(client: Any, request: Any, end: Served | BaseException) -> bool:
    """Of an attempt that failed so, by the rules of the SDK. It may still be interrupted before it does."""
    if request.options.get_max_retries(client.max_retries) <= request.retries_taken:
        return False
    if isinstance(end, BaseException):
        return isinstance(end, Exception) and _is_retryable(end, client, request)
    if end.own is None:
        failure = end.failure
        if failure is None or failure.kind != "status":
            return failure is not None
        return _says_so(failure.status, failure.headers, client, request)
    raw = end.own.raw
    if isinstance(raw, BaseException):
        return _is_retryable(raw, client, request)
    response = getattr(raw, "http_response", raw)
    return _says_so(response.status_code, response.headers.items(), client, request)


def _is_retryable(error: BaseException, client: Any, request: Any) -> bool:
    """What it was raised from counts too."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, anthropic.APIStatusError):
            return _says_so(cause.response.status_code, cause.response.headers.items(), client, request)
        if isinstance(cause, RETRYABLE):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def _says_so(status: int, headers: Iterable[tuple[str, str]], client: Any, request: Any) -> bool:
    said = {name.lower(): value for name, value in headers}.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    if status == 401:  # once, with another token
        return getattr(client, "_token_cache", None) is not None and not request.retries_taken
    return status in ASKED_AGAIN or status >= 500
