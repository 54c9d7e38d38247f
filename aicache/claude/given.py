"""What a caller is given: a response of the SDK's, its own or a replay, with what the cache has to say of it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import anthropic
import httpx2

from aicache import outcome
from aicache.calls import ATTRIBUTE, EXTENSION
from aicache.claude.body import AsyncBody, Body, Paced
from aicache.claude.request import Attempt
from aicache.core import replay
from aicache.core.callinfo import CallInfo
from aicache.core.records import Answer, Entry, Failure, Headers, Opened, Served
from aicache.reading import AsyncReading, Reading
from aicache.signals import Untold, asettle, settle

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"


def marked(response: Any, info: CallInfo) -> Any:
    """A response, with what the cache has to say of it."""
    raw = http_of(response)
    raw.headers["cache-status"] = cache_status(info)
    raw.extensions[EXTENSION] = info
    return response


def http_of(response: Any) -> httpx2.Response:
    """The response itself where ``cast_to`` asked for no more."""
    raw: httpx2.Response = getattr(response, "http_response", response)
    return raw


def is_whole(response: Any) -> bool:
    """Whether the response's parsed form, which it memoises, is a message that the caller will get."""
    raw: httpx2.Response = response.http_response
    return raw.is_success and raw.is_closed and raw.headers.get("content-type", "").startswith("application/json")


def mark_message(message: Any, info: CallInfo) -> None:
    if isinstance(message, anthropic.BaseModel):
        setattr(message, ATTRIBUTE, info)


def given(served: Served, made: Attempt, info: CallInfo, kind: Any) -> Any:
    """What the caller gets: its own response, a replay of another's, or the error that another's call met."""
    if served.own is not None:
        if isinstance(served.own.raw, BaseException):
            raise served.own.raw
        return marked(served.own.raw, info)
    if served.failure is not None:
        return failed_again(served.failure, made, info, kind)
    return replayed(served.given, made, info, kind)


def replayed(entry: Entry, made: Attempt, info: CallInfo, kind: Any) -> Any:
    """A stored or shared answer: the parsed message where that is what was asked for, else a response around it."""
    request = made.request
    if made.request.stream:
        return marked(streamed(entry.answer.headers, _replay(entry.answer, made), made, kind), info)
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
    return marked(response_of(200, as_json, entry.answer.body, made, kind), info)


def _replay(answer: Answer, made: Attempt) -> httpx2.SyncByteStream | httpx2.AsyncByteStream:
    pace = None if made.ask is None else made.ask.policy.replay
    return httpx2.ByteStream(replay.events(answer)) if pace is None else Paced(list(replay.paced(answer, pace)))


def passed_on(reading: Reading | AsyncReading, made: Attempt, kind: Any) -> Any:
    """A stream that is still to come: the caller's own, or somebody else's. How its call ends is known when it has been
    read."""
    served = reading.served
    info = made.info(served)
    outcome.begun(made, info)
    own = served.own is not None and isinstance(served.own.outcome, Opened)
    source: Any = served.own.outcome.upstream if own else None  # type: ignore[union-attr]  # own says so
    if source is None:
        response = streamed(served.headers or (), _body(reading), made, kind)
    else:
        response = source.taken()
        raw = http_of(response)
        raw.stream = _body(reading, source.inner)
        for name in ("content-encoding", "content-length"):
            raw.headers.pop(name, None)
    extensions = http_of(response).extensions
    in_thread = isinstance(reading, Reading)
    left: Untold = []

    def conclude(end: Served | BaseException) -> BaseException | None:
        told = outcome.failed(made, end) if isinstance(end, BaseException) else made.info(end)
        extensions[EXTENSION] = told
        left.extend(outcome.ending(made, told, end, is_last=True))
        if in_thread:
            settle(left)
        return end if isinstance(end, BaseException) else _broken(end, made)

    if isinstance(reading, Reading):
        reading.begin(conclude)
    else:
        reading.begin(conclude, lambda: asettle(left))
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
        return marked(response_of(failure.status, failure.headers, failure.body, made, kind), info)
    request = httpx2.Request("POST", made.url)
    if failure.kind == "timeout":
        raise anthropic.APITimeoutError(request=request)
    raise anthropic.APIConnectionError(message=failure.body.decode(errors="replace"), request=request)


def response_of(
    status: int,
    headers: Headers | list[tuple[str, str]],
    body: bytes,
    made: Attempt,
    kind: Any,
    request: httpx2.Request | None = None,
) -> Any:
    """``request``: the one that it answers, where there was one."""
    request = request or httpx2.Request("POST", made.url)
    raw = httpx2.Response(status, headers=list(headers), stream=httpx2.ByteStream(body), request=request)
    raw.read()
    raw.elapsed = timedelta(0)
    return wrapped(raw, made, kind)


def streamed(headers: Headers, body: Any, made: Attempt, kind: Any) -> Any:
    request = httpx2.Request("POST", made.url)
    raw = httpx2.Response(200, headers=_typed(headers, EVENTS), stream=body, request=request)
    raw.elapsed = timedelta(0)
    return wrapped(raw, made, kind)


def wrapped(raw: httpx2.Response, made: Attempt, kind: Any) -> Any:
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
