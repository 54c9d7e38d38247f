"""From what shall be answered to what goes on the wire."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any

from aicache.testing.messages import compact, encode, events, failure, identifier, message
from aicache.testing.promptcache import Visit
from aicache.testing.received import Received
from aicache.testing.reply import Reply
from aicache.testing.wire import Response, nothing

ORGANIZATION = "00000000-0000-4000-8000-000000000000"

RATE_LIMITS = {
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1999000",
    "anthropic-ratelimit-output-tokens-limit": "400000",
    "anthropic-ratelimit-output-tokens-remaining": "399000",
}
"""Examples of what the API sends; nothing counts them down."""

GZIP_FORMAT = 16 + zlib.MAX_WBITS


def as_json(status: int, value: Any) -> Response:
    return Response(status, _head("application/json"), [compact(value)])


def failed(reply: Reply, latency: float = 0.0, finished: Callable[[], None] = nothing) -> Response:
    """The API's error, under the request id that its body names."""
    headers = {**_head("application/json"), **reply.headers}
    type, text = reply.failure or ("api_error", "")
    body = compact(failure(type, text, headers["request-id"]))
    drop_after = reply.drop_after
    return Response(reply.status, headers, [body], latency=latency, drop_after=drop_after, finished=finished)


def answered(
    reply: Reply, received: Received, visit: Visit, latency: float, finished: Callable[[], None] = nothing
) -> Response:
    """The reply as this request asked for it: whole, streamed, compressed. Only a message touches
    the prompt cache."""
    latency = latency if reply.latency is None else reply.latency
    if reply.failure:
        return failed(reply, latency, finished)
    streams = received.body.get("stream") is True and reply.body is None
    headers = {**_head("text/event-stream; charset=utf-8" if streams else "application/json"), **reply.headers}
    if reply.body is not None:
        pieces, begun = [reply.body], nothing
    else:
        whole = message(reply, received.body, visit.usage)
        pieces = _stream(reply, whole, headers["request-id"]) if streams else [compact(whole)]
        begun = visit.begun
    if reply.gzip and "gzip" in received.headers.get("accept-encoding", ""):
        pieces = list(_compressed(pieces)) if streams else [gzip.compress(pieces[0])]
        headers["content-encoding"] = "gzip"
    return Response(
        reply.status,
        headers,
        pieces,
        chunked=streams,
        latency=latency,
        pace=reply.pace,
        gate=reply.gate if streams else None,
        drop_after=reply.drop_after,
        begun=begun,
        finished=finished,
    )


def _head(content_type: str) -> dict[str, str]:
    return {
        "date": formatdate(usegmt=True),
        "content-type": content_type,
        "request-id": identifier("req"),
        "anthropic-organization-id": ORGANIZATION,
        **RATE_LIMITS,
    }


def _stream(reply: Reply, whole: Mapping[str, Any], request_id: str) -> list[bytes]:
    pieces = [encode(event) for event in events(whole)]
    if reply.error_after is None:
        return pieces
    return [*pieces[: reply.error_after], encode(failure("overloaded_error", "Overloaded", request_id))]


def _compressed(pieces: list[bytes]) -> Iterator[bytes]:
    """One gzip stream, flushed after every piece, so that each can be read as it comes."""
    compressor = zlib.compressobj(wbits=GZIP_FORMAT)
    for number, piece in enumerate(pieces, start=1):
        mode = zlib.Z_FINISH if number == len(pieces) else zlib.Z_SYNC_FLUSH
        yield compressor.compress(piece) + compressor.flush(mode)
