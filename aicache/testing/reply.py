"""What the server shall answer: a message, an error, a dead connection or plain bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

Block = dict[str, Any]
"""A content block, in the API's own JSON shape."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

USAGE_FIELDS = frozenset(
    {
        "cache_creation",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "inference_geo",
        "input_tokens",
        "iterations",
        "output_tokens",
        "output_tokens_details",
        "server_tool_use",
        "service_tier",
        "speed",
    }
)

LAST_WORDS = "This answer never arrives whole. " * 60
"""What a dropped answer was going to say: long enough to die in the middle of."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. Build it with a constructor below, vary it with `dataclasses.replace`.

    The constructors take every field of this class by name. `text`, `blocks` and `tool_use` take
    besides the fields of the API's usage (`output_tokens=7`), and any other name becomes a field
    of the message (`id=…`, `container=…`, `stop_details=…`).
    """

    content: Sequence[Block] = ()
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the message; they win over those that the server would set."""

    usage: Mapping[str, Any] = field(default_factory=dict)
    """Counts that win over the estimated ones."""

    status: int = 200
    failure: tuple[str, str] | None = None
    """Type and message of an API error; then there is no message."""

    body: bytes | None = None
    """Sent as it stands instead of a message."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """They win over the server's own. Names in lower case."""

    latency: float | None = None
    """Seconds before the response begins; None: the server's."""

    pace: float = 0.0
    """Seconds between the events of a stream."""

    gate: Callable[[int], bool] | None = None
    """In a stream: asked for each event, from 0 on, whether it may go out; it waits until that is so."""

    gzip: bool = False
    """Compress the body, if the client accepts it."""

    error_after: int | None = None
    """In a stream: this many events, then `event: error` (overloaded_error), then the end."""

    drop_after: int | None = None
    """Close the connection after this many bytes of the body; 0: before any byte of the response.
    Bytes as sent (compressed, if so), without the framing of chunks. A body that is shorter
    arrives whole, but its stream still lacks the closing chunk."""

    @classmethod
    def text(cls, text: str, **more: Any) -> Self:
        return cls.blocks([{"type": "text", "text": text}], **more)

    @classmethod
    def tool_use(cls, name: str, input: Mapping[str, Any], **more: Any) -> Self:
        """Claude calls one of the user's tools. Every answer made from it gets a fresh block id."""
        block = {"type": "tool_use", "name": name, "input": dict(input)}
        return cls.blocks([block], **{"stop_reason": "tool_use", **more})

    @classmethod
    def blocks(cls, content: Sequence[Mapping[str, Any]], **more: Any) -> Self:
        own = {name: more.pop(name) for name in list(more) if name in _OWN_FIELDS}
        usage = {name: more.pop(name) for name in list(more) if name in USAGE_FIELDS}
        own["usage"] = {**usage, **own.get("usage", {})}
        own["fields"] = {**more, **own.get("fields", {})}
        return cls(content=[dict(block) for block in content], **own)

    @classmethod
    def error(
        cls,
        status: int,
        type: str | None = None,
        message: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Self:
        """An API error. Without `type`, the one that the API sends with this status."""
        type = type or ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        all_headers = {name.lower(): value for name, value in (headers or {}).items()}
        if retry_after is not None:
            all_headers["retry-after"] = f"{retry_after:g}"
        failure = (type, message or type.replace("_", " ").capitalize())
        return cls(status=status, failure=failure, headers=all_headers, **more)

    @classmethod
    def drop(cls, after_bytes: int = 0, **more: Any) -> Self:
        """The connection dies after so many bytes of the body; see `drop_after`."""
        return cls.text(LAST_WORDS, drop_after=after_bytes, **more)

    @classmethod
    def raw(cls, status: int, headers: Mapping[str, str], body: bytes, **more: Any) -> Self:
        """These very bytes, under these headers (and a date, a request id and the length)."""
        return cls(status=status, headers={name.lower(): value for name, value in headers.items()}, body=body, **more)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """A reply told as JSON, for other processes: exactly one of the keys `text`, `blocks`,
        `error`, `drop`, or `tool_use` (with `input`), beside the constructor's other arguments.

        ValueError names what is wrong with it.
        """
        more = dict(entry)
        verbs = [verb for verb in ("text", "blocks", "tool_use", "error", "drop") if verb in more]
        if len(verbs) != 1:
            raise ValueError(f"a reply is one of text, blocks, tool_use, error, drop; got {sorted(more)}")
        subject = more.pop(verbs[0])
        arguments = (subject, more.pop("input", {})) if verbs[0] == "tool_use" else (subject,)
        try:
            reply: Self = getattr(cls, verbs[0])(*arguments, **more)
        except TypeError as mistake:
            raise ValueError(str(mistake)) from mistake
        return reply


_OWN_FIELDS = frozenset(own.name for own in fields(Reply)) - {"content"}
