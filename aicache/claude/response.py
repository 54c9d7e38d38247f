"""How an own call ended: what is kept of the SDK's response."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import anthropic
import httpx2

from aicache.claude.given import JSON, http_of, response_of
from aicache.claude.request import Attempt
from aicache.claude.source import AsyncSource, Source
from aicache.core.operations import Form
from aicache.core.recording import Recording
from aicache.core.records import Answer, Called, Failure, Headers, Opened
from aicache.ledger import counting
from aicache.ledger.prices import Price, price

logger = logging.getLogger("aicache")

EVENT_STREAM: Final = "text/event-stream"

# How this one response travelled, or what is true of this one moment: not repeated with a stored answer.
NOT_KEPT: Final = frozenset(
    {
        "alt-svc",
        "cache-status",
        "cf-cache-status",
        "cf-ray",
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "keep-alive",
        "retry-after",
        "server-timing",
        "set-cookie",
        "strict-transport-security",
        "trailer",
        "transfer-encoding",
        "via",
    }
)
RATE_LIMITS: Final = ("anthropic-ratelimit-", "x-ratelimit-")
# Of a failure more is repeated: its retry-after and its limits tell each caller's SDK when to come back.
NOT_REPEATED: Final = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "set-cookie", "transfer-encoding"}
)


# What stands for an answer that never came, or not to its end: the SDK's errors, and those of reading a body ourselves.
UNREACHED: Final = (anthropic.APIConnectionError, httpx2.RequestError)

# Of those, what says that the request never left.
NEVER_LEFT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


@contextmanager
def going_out(sent: counting.Sent | None) -> Iterator[None]:
    """Around the sending of a request, which is counted: upstream never saw one that could not leave."""
    try:
        yield
    except anthropic.APIConnectionError as error:
        if isinstance(error.__cause__, NEVER_LEFT):
            counting.not_sent(sent)
        raise
    except Exception:  # all that goes wrong on the way is an APIConnectionError: this was before, such as a missing key
        counting.not_sent(sent)
        raise


def answered(response: Any, sent: counting.Sent | None) -> None:
    """Upstream has, or its stream has begun."""
    if http_of(response).is_success:
        counting.answered(sent)


def called(response: Any, made: Attempt, form: Form, sent: counting.Sent | None) -> Called:
    """How an own call ended that got a response. Where it is none of the cache's it is passed on, read or unread."""
    raw = http_of(response)
    if not raw.is_success:
        counting.failed(sent)
    if made.ask is None and (made.prompt is None or not raw.is_success):
        if raw.is_success:
            priced(sent, _parsed(raw.content) if raw.is_closed and not made.request.stream else None)
        return Called(response, Answer(b"") if raw.is_success else Failure("status", raw.status_code))
    if not raw.is_success:
        return Called(
            response,
            Failure(
                "status",
                raw.status_code,
                tuple((name, value) for name, value in raw.headers.items() if name not in NOT_REPEATED),
                raw.content,
                attempt=made.request.retries_taken,
                credential=made.credential,
            ),
        )
    is_events = raw.headers.get("content-type", "").startswith(EVENT_STREAM)
    if form == "stream" and not is_events:  # who stands between takes no notice of that
        made.forget_streams()
        plain = response_of(raw.status_code, list(raw.headers.items()), raw.content, made, type(response))
        return called(plain, made, "own", sent)
    if made.request.stream and made.ask is None and not is_events:
        priced(sent, None)
        return Called(response, Answer(b""))
    if made.request.stream or form == "stream":
        headers = _kept(raw.headers)
        kind = AsyncSource if isinstance(response, anthropic.AsyncAPIResponse) else Source
        price_of = partial(priced, sent)
        whole = partial(_whole, _plain(raw), raw.request, type(response), made, sent)
        return Called(None, Opened(made.asked, kind(response, headers, whole, price_of), headers, is_events))
    message = _parsed(raw.content)
    found = priced(sent, message)
    answer = Answer(raw.content, _kept(raw.headers), found.usd, found.premium, found.tokens)
    return Called(response, answer, message)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def priced(sent: counting.Sent | None, message: Any) -> Price:
    """What upstream charges for an answer, which is counted, once. ``message``: None, where nobody has read it."""
    found = price(message)
    counting.charged(sent, found)
    return found


def unreached(
    error: anthropic.APIConnectionError | httpx2.RequestError, made: Attempt, sent: counting.Sent | None
) -> Called:
    """How an own call ended that got none. A body that broke off is to all of them what it is to a plain call's SDK."""
    counting.failed(sent)
    if isinstance(error, httpx2.RequestError):
        cause, request = error, httpx2.Request("POST", made.url)
        if isinstance(cause, httpx2.TimeoutException):
            error = anthropic.APITimeoutError(request=request)
        else:
            error = anthropic.APIConnectionError(request=request)
        error.__cause__ = cause
    timed_out = isinstance(error, anthropic.APITimeoutError)
    failure = Failure(
        "timeout" if timed_out else "connection",
        body=str(error).encode(),
        attempt=made.request.retries_taken,
        credential=made.credential,
        timeout=made.ask.timeout if made.ask else None,
    )
    return Called(error, failure)


# What the error event of a stream would have been as the status of a plain answer; any other is upstream's own fault.
STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def _whole(
    headers: list[tuple[str, str]],
    request: httpx2.Request,
    kind: Any,
    made: Attempt,
    sent: counting.Sent | None,
    recording: Recording,
    error: Exception | None,
) -> Called | None:
    """What a plain call comes to that was made as a stream; None where the plain answer cannot be told of that."""
    if isinstance(error, TimeoutError):
        error = httpx2.ReadTimeout("The read operation timed out", request=request)
    elif error is not None and not isinstance(error, httpx2.RequestError):
        error = httpx2.ReadError(str(error))
    if recording.has_failed:
        said = recording.failure.get("error") if isinstance(recording.failure, dict) else None
        word = said.get("type") if isinstance(said, dict) else None
        status = STATUSES.get(word, 500) if isinstance(word, str) else 500
        body = json.dumps(recording.failure).encode()
        priced(sent, None)
        return called(response_of(status, headers, body, made, kind, request), made, "own", sent)
    if error is not None or not (recording.is_whole or recording.is_spoiled):
        priced(sent, None)
        return unreached(error or httpx2.RemoteProtocolError("the stream ended before its message did"), made, sent)
    if not recording.body:
        priced(sent, recording.message)
        logger.warning("%s: a stream cannot be put together again; the call is made anew", made.url)
        return None
    return called(response_of(200, headers, recording.body, made, kind, request), made, "own", sent)


def _plain(raw: httpx2.Response) -> list[tuple[str, str]]:
    """The headers of a stream, as those of a plain answer."""
    kept = [(name, value) for name, value in raw.headers.items() if name not in NOT_REPEATED]
    return [*((name, value) for name, value in kept if name != "content-type"), ("content-type", JSON)]


def _kept(headers: httpx2.Headers) -> Headers:
    return tuple(
        (name, value) for name, value in headers.items() if name not in NOT_KEPT and not name.startswith(RATE_LIMITS)
    )


def is_to_be_read(response: Any, made: Attempt, form: Form) -> bool:
    """Before it is looked at: errors are read, and answers that are not streamed."""
    if made.ask is None and made.prompt is None:
        return False
    raw = http_of(response)
    if form == "stream":
        return not (raw.is_success and raw.headers.get("content-type", "").startswith(EVENT_STREAM))
    return not (made.request.stream and raw.is_success)
