"""How entries, failures and lineages are written: a format byte, a JSON header, a body. Unreadable is a miss.

1 byte format · 1 byte codec (0 as it is, 1 zlib) · 4 bytes length of the header · 16 bytes mark of the stamps ·
header · body: an answer as JSON, then, where it was streamed, as events
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from aicache.core.lineage import Lineage
from aicache.core.records import Answer, Ask, Entry, Failure, Stamps

FORMAT: Final = 3
PLAIN, ZLIB = 0, 1
FRAME: Final = struct.Struct(">BBI16s")  # lua/lead.lua reads the mark where this puts it

# Below this a reply fits one network packet anyway, and inflating costs more than it saves.
COMPRESS_FROM: Final = 2048
# Characters of an epoch: 48 bits of a digest. Of a stamp: its epoch, and 72 random bits.
EPOCH: Final = 12
STAMP: Final = EPOCH + 12
# Nothing that we wrote is larger; what claims to be is not inflated.
MOST: Final = 256 * 1024 * 1024


class Unreadable(ValueError):
    """Not ours, of another format, torn, or of another key or tenant."""


def pack_entry(entry: Entry) -> bytes:
    answer = entry.answer
    return _pack(
        {
            "key": entry.key,
            "tenant": entry.tenant,
            "at": entry.stored_at,
            "fresh": entry.fresh_until,
            "dies": entry.dies_at,
            "headers": answer.headers,
            "usd": None if answer.usd is None else str(answer.usd),
            "premium": str(answer.premium),
            "tokens": answer.tokens,
            "traits": sorted(answer.traits),
            "streamed": len(answer.events),
            "epoch": entry.stamps.epoch,
            "stamps": _joined(entry.stamps),
            "generations": entry.stamps.generations,
        },
        answer.body + answer.events,
        entry.stamps.mark,
    )


def unpack_entry(data: bytes, ask: Ask) -> Entry:
    """Raises Unreadable, also where the entry says that it is another tenant's or another question's."""
    entry = read_entry(data)
    if not answers(entry, ask):
        raise Unreadable("the entry names another key or tenant")
    return entry


def answers(entry: Entry, ask: Ask) -> bool:
    return entry.key == ask.key and entry.tenant == ask.tenant


def read_entry(data: bytes) -> Entry:
    """Whosever it is. Raises Unreadable."""
    header, body = _unpack(data)
    with _reading():
        usd = header["usd"]
        plain = len(body) - _whole(header.get("streamed", 0))
        if not 0 <= plain <= len(body):
            raise ValueError("more events than there is")
        answer = Answer(
            body[:plain],
            _pairs(header["headers"]),
            None if usd is None else _dollars(_text(usd)),
            _dollars(_text(header.get("premium", "0"))),
            _whole(header.get("tokens", 0)),
            frozenset(_text(trait) for trait in _row(header.get("traits", []))),
            body[plain:],
        )
        times = _number(header["at"]), _number(header["fresh"]), _number(header["dies"])
        return Entry(_text(header["key"]), _text(header["tenant"]), answer, *times, _stamps(header))


def pack_failure(failure: Failure) -> bytes:
    return _pack(
        {
            "kind": failure.kind,
            "status": failure.status,
            "headers": failure.headers,
            "attempt": failure.attempt,
            "credential": failure.credential,
            "timeout": failure.timeout,
        },
        failure.body,
    )


def unpack_failure(data: bytes) -> Failure:
    """Raises Unreadable."""
    header, body = _unpack(data)
    with _reading():
        kind, timeout = header["kind"], header["timeout"]
        if kind not in ("status", "connection", "timeout"):
            raise TypeError(f"a failure of kind {kind!r}")
        return Failure(
            kind,
            _whole(header["status"]),
            _pairs(header["headers"]),
            body,
            _whole(header["attempt"]),
            _text(header["credential"]),
            None if timeout is None else _number(timeout),
        )


def pack_lineage(lineage: Lineage) -> bytes:
    header = {
        "key": lineage.key,
        "dies": lineage.dies_at,
        "stamps": _joined(lineage.stamps),
        "sources": lineage.sources,
    }
    return _pack(header, b"")


def unpack_lineage(data: bytes) -> Lineage:
    """Raises Unreadable."""
    header, _ = _unpack(data)
    with _reading():
        stamps, sources = _stamps(header), _pairs(header["sources"])
        return Lineage(_text(header["key"]), _number(header["dies"]), stamps, sources)


def _joined(stamps: Stamps) -> str:
    return "".join(stamps.values)


def _stamps(header: dict[str, Any]) -> Stamps:
    joined, generations = _text(header["stamps"]), header.get("generations")
    values = tuple(joined[at : at + STAMP] for at in range(0, len(joined), STAMP))
    counted = None if generations is None else tuple(_whole(count) for count in _row(generations))
    return Stamps(values, counted, _text(header.get("epoch", "")))


@contextmanager
def _reading() -> Iterator[None]:
    """A field that is missing, or of another type than we write, is no error of the reader's."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, InvalidOperation) as error:
        raise Unreadable(str(error)) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text was written")
    return value


def _row(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where a list was written")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:  # a bool is an int too
        raise TypeError(f"{type(value).__name__} where a whole number was written")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} where a number was written")
    return float(value)


def _dollars(text: str) -> Decimal:
    usd = Decimal(text)
    if not usd.is_finite():
        raise ValueError(f"{text} dollars")
    return usd


def _pairs(headers: Any) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in map(_row, _row(headers)))


def _pack(header: dict[str, Any], body: bytes, mark: bytes = bytes(16)) -> bytes:
    codec = PLAIN
    header["size"] = len(body)
    if len(body) >= COMPRESS_FROM:
        small = zlib.compress(body, 1)
        if len(small) < len(body):
            codec, body = ZLIB, small
    text = json.dumps(header, separators=(",", ":")).encode()
    return FRAME.pack(FORMAT, codec, len(text), mark) + text + body


def _unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        format_, codec, length, _ = FRAME.unpack_from(data)
        if format_ != FORMAT:
            raise Unreadable(f"format {format_}")
        start = FRAME.size + length
        header = json.loads(data[FRAME.size : start])
        body, size = data[start:], _whole(header.pop("size"))
        if size < 0:
            raise Unreadable(f"{size} bytes")
        if codec == ZLIB:
            inflater = zlib.decompressobj()
            body = inflater.decompress(body, min(size, MOST) + 1)
            if not inflater.eof:  # its checksum was not seen
                raise Unreadable("torn, or larger than it says")
        if len(body) != size:
            raise Unreadable(f"{len(body)} bytes where {size} were written")
        return header, body
    except (struct.error, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(str(error)) from error
