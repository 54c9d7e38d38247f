"""Answers ⇄ the SDK's responses: what is kept of one, and how a kept one is given back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import anthropic
import httpx2

from aicache.calls import ATTRIBUTE, EXTENSION
from aicache.claude.body import AsyncBody, Body, Paced
from aicache.claude.request import Attempt
from aicache.claude.source import AsyncSource, Source
from aicache.core import replay
from aicache.core.records import Answer, Called, CallInfo, Entry, Failure, Headers, Opened, Served
from aicache.ledger import counting
from aicache.ledger.prices import price
from aicache.reading import AsyncReading, Reading

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


def called(response: Any, made: Attempt) -> Called:
    """How an own call ended that got a response. Where it passes the cache by it is passed on, read or unread."""
    raw = _http(response)
    if made.ask is None:
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
                credential=made.ask.credential,
            ),
        )
    if made.ask.streams:
        headers = _kept(raw.headers)
        kind = AsyncSource if isinstance(response, anthropic.AsyncAPIResponse) else Source
        return Called(None, Opened(made.ask, kind(response, headers), headers))
    try:
        message = json.loads(raw.content)
    except ValueError:
        message = None
    priced = price(message)
    answer = Answer(raw.content, _kept(raw.headers), priced.usd, priced.premium, priced.tokens)
    return Called(response, answer, message)


def unreached(error: anthropic.APIConnectionError | httpx2.RequestError, made: Attempt) -> Called:
    """How an own call ended that got none. A body that broke off is to all of them what it is to a plain call's SDK."""
    if isinstance(error, httpx2.RequestError):
        cause, request = error, httpx2.Request("POST", made.url)
        if isinstance(cause, httpx2.TimeoutException):
            error = anthropic.APITimeoutError(request=request)
        else:
            error = anthropic.APIConnectionError(request=request)
        error.__cause__ = cause
    timed_out = isinstance(error, anthropic.APITimeoutError)
    ask = made.ask
    failure = Failure(
        "timeout" if timed_out else "connection",
        body=str(error).encode(),
        attempt=made.request.retries_taken,
        credential=ask.credential if ask else "",
        timeout=ask.timeout if ask else None,
    )
    return Called(error, failure)


def _kept(headers: httpx2.Headers) -> Headers:
    return tuple(
        (name, value) for name, value in headers.items() if name not in NOT_KEPT and not name.startswith(RATE_LIMITS)
    )


def marked(response: Any, info: CallInfo) -> Any:
    """A response, with what the cache has to say of it."""
    raw = _http(response)
    raw.headers["cache-status"] = cache_status(info)
    raw.extensions[EXTENSION] = info
    return response


def _http(response: Any) -> httpx2.Response:
    """The response itself where ``cast_to`` asked for no more."""
    raw: httpx2.Response = getattr(response, "http_response", response)
    return raw


def is_to_be_read(response: Any, made: Attempt) -> bool:
    """Before it is looked at: errors are read, and answers that their caller does not stream."""
    return made.ask is not None and not (made.ask.streams and _http(response).is_success)


def is_whole(response: Any) -> bool:
    """Whether the response's parsed form, which it memoises, is a message that the caller will get."""
    raw: httpx2.Response = response.http_response
    return raw.is_success and raw.is_closed and raw.headers.get("content-type", "").startswith("application/json")


def mark_message(message: Any, info: CallInfo) -> None:
    if isinstance(message, anthropic.BaseModel):
        setattr(message, ATTRIBUTE, info)


def replayed(entry: Entry, made: Attempt, info: CallInfo, kind: Any) -> Any:
    """A stored or shared answer: the parsed message where that is what was asked for, else a response around it."""
    request = made.request
    if made.request.stream:
        return marked(_streamed(entry.answer.headers, _replay(entry.answer, made), made, kind), info)
    if made.is_plain and not getattr(made.client, "_strict_response_validation", False):
        message = request.cast_to.construct(**json.loads(entry.answer.body))
        if callable(parse := request.options.post_parser):
            message = parse(message)
        headers = dict(entry.answer.headers)
        message._request_id = headers.get("request-id")
        message._workspace_id = headers.get("anthropic-workspace-id")
        setattr(message, ATTRIBUTE, info)
        return message
    as_json = _typed(entry.answer.headers, JSON) if entry.answer.events else entry.answer.headers
    return marked(_response(200, as_json, entry.answer.body, made, kind), info)


def _replay(answer: Answer, made: Attempt) -> httpx2.SyncByteStream | httpx2.AsyncByteStream:
    pace = None if made.ask is None else made.ask.policy.replay
    return httpx2.ByteStream(replay.events(answer)) if pace is None else Paced(list(replay.paced(answer, pace)))


def passed_on(reading: Reading | AsyncReading, made: Attempt, info: CallInfo, kind: Any) -> Any:
    """A stream that is still to come: the caller's own, or somebody else's."""
    served = reading.served
    own = served.own is not None and isinstance(served.own.outcome, Opened)
    source: Any = served.own.outcome.upstream if own else None  # type: ignore[union-attr]  # own says so
    if source is None:
        response = _streamed(served.headers or (), _body(reading), made, kind)
    else:
        response = source.taken()
        raw = _http(response)
        raw.stream = _body(reading, source.inner)
        for name in ("content-encoding", "content-length"):
            raw.headers.pop(name, None)
    extensions = _http(response).extensions

    def conclude(end: Served | BaseException) -> BaseException | None:
        if isinstance(end, BaseException):
            extensions[EXTENSION] = made.record_error(end)
            return end
        told = extensions[EXTENSION] = made.info(end)
        made.record(told, end)
        return _broken(end, made)

    reading.begin(conclude)
    return marked(response, info)


def _body(reading: Reading | AsyncReading, inner: Any = None) -> Body | AsyncBody:
    return Body(reading, inner) if isinstance(reading, Reading) else AsyncBody(reading, inner)


def _broken(served: Served, made: Attempt) -> BaseException | None:
    """What reading a stream raises at its end: what its own call did, or what another's would have in its place."""
    if served.own is not None:
        return served.own.raw if isinstance(served.own.raw, BaseException) else None
    if served.failure is None:
        return None
    request = httpx2.Request("POST", made.url)
    if served.failure.kind == "timeout":
        return httpx2.ReadTimeout("The read operation timed out", request=request)
    words = "peer closed connection without sending complete message body (incomplete chunked read)"
    return httpx2.RemoteProtocolError(words, request=request)


def failed_again(failure: Failure, made: Attempt, info: CallInfo, kind: Any) -> Any:
    """The error that another's call met: the response that the SDK will raise for, or the connection error itself."""
    if failure.kind == "status":
        return marked(_response(failure.status, failure.headers, failure.body, made, kind), info)
    request = httpx2.Request("POST", made.url)
    if failure.kind == "timeout":
        raise anthropic.APITimeoutError(request=request)
    raise anthropic.APIConnectionError(message=failure.body.decode(errors="replace"), request=request)


def _response(status: int, headers: Headers | list[tuple[str, str]], body: bytes, made: Attempt, kind: Any) -> Any:
    raw = httpx2.Response(
        status, headers=list(headers), stream=httpx2.ByteStream(body), request=httpx2.Request("POST", made.url)
    )
    raw.read()
    raw.elapsed = timedelta(0)
    return _wrapped(raw, made, kind)


def _streamed(headers: Headers, body: Any, made: Attempt, kind: Any) -> Any:
    request = httpx2.Request("POST", made.url)
    raw = httpx2.Response(200, headers=_typed(headers, EVENTS), stream=body, request=request)
    raw.elapsed = timedelta(0)
    return _wrapped(raw, made, kind)


def _wrapped(raw: httpx2.Response, made: Attempt, kind: Any) -> Any:
    request = made.request
    is_stream = bool(request.stream) and raw.is_success
    return kind(
        raw=raw,
        client=made.client,
        cast_to=request.cast_to,
        stream=is_stream,
        stream_cls=request.stream_cls if is_stream else None,
        options=request.options,
        retries_taken=request.retries_taken,
    )


JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"


def _typed(headers: Headers, kind: str) -> list[tuple[str, str]]:
    """An answer is given in other forms than it came in."""
    return [(name, value) for name, value in headers if name != "content-type"] + [("content-type", kind)]


def cache_status(info: CallInfo) -> str:
    """One member of an RFC 9211 Cache-Status header."""
    match info.status:
        case "hit" | "semantic":
            parts = ["hit"]
        case "stale":
            parts = ["hit", "detail=stale"]
        case "coalesced":
            parts = ["fwd=miss", "collapsed"]
        case "bypass" | "unscoped" | "degraded":
            parts = ["fwd=bypass", f"detail={info.status}"]
        case "error":
            parts = ["fwd=miss", "detail=error"]
        case _:
            parts = ["fwd=miss"]
    if info.stored and info.status == "miss":
        parts.append("stored")
    if info.expires_in is not None:
        parts.append(f"ttl={int(info.expires_in)}")
    return "; ".join(["aicache", *parts])
