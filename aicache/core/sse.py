"""Server-sent events as bytes: cut where they end, however they are chunked; read; written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

# A line ends with CRLF, LF or CR; an event with an empty line. The two halves of one CRLF are no empty line. A CR after
# a CRLF or LF may be the first half of another, which comes with the next chunk: only what follows it can tell.
EMPTY_LINE: Final = re.compile(rb"\r(?:\r|\n(?:\r?\n|\r(?=[^\n])))|\n(?:\r?\n|\r(?=[^\n]))")
# So much of an empty line may have come with the chunk before.
STRADDLES: Final = 3


class Cutter:
    """Cuts a body into its events, each with the empty line that ends it. Put together they are the body again."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an event that has not ended yet."""
        return len(self._rest)

    def cut(self, chunk: bytes) -> list[bytes]:
        """The events that end with this chunk."""
        search_from = max(len(self._rest) - STRADDLES, 0)
        self._rest += chunk
        events, begin = [], 0
        for found in EMPTY_LINE.finditer(self._rest, search_from):
            events.append(bytes(self._rest[begin : found.end()]))
            begin = found.end()
        if begin:
            del self._rest[:begin]
        return events


def read(event: bytes) -> tuple[str, str]:
    """Its name and its data, "" where it has none. Raises UnicodeDecodeError."""
    name, data = "", []
    for line in event.splitlines():  # of bytes: at line ends only, not at each that Unicode knows
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value.decode())
        elif field == b"event":
            name = value.decode()
    return name, "\n".join(data)


def written(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), as_json(event))


def as_json(value: Any) -> bytes:
    """As upstream writes it. Half a character, which UTF-8 cannot say, is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
