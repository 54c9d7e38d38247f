"""What a list shows of an answer, from the beginning of its payload, however large it is."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import jiter

from aicache.store.payload import FORMAT, FRAME, ZLIB, Unreadable

HEAD: Final = 16 * 1024
"""Bytes of a payload that hold its header, which has 30 for each of 257 tags at most and what upstream's headers are,
and then the beginning of the answer. As many characters of a request hold its beginning."""
SHOWN: Final = 8 * 1024  # bytes of the answer, in which its first words are to be found
LONGEST: Final = 90  # characters


@dataclass(frozen=True, slots=True)
class Glance:
    """``generations``: as ``core.records.Stamps`` has them; None where they are not known by now."""

    generations: tuple[int, ...] | None = None
    answer: bytes = b""


def glance(head: bytes) -> Glance:
    """Raises Unreadable."""
    try:
        format_, codec, length, _ = FRAME.unpack_from(head)
        if format_ != FORMAT:
            raise Unreadable(f"format {format_}")
        start = FRAME.size + length
        if start > len(head) >= HEAD:
            return Glance()
        header = json.loads(head[FRAME.size : start])
        counted, plain = header["generations"], header["size"] - header.get("streamed", 0)
        body = head[start : start + HEAD]
        beginning = zlib.decompressobj().decompress(body, SHOWN) if codec == ZLIB else body[:SHOWN]
        return Glance(None if counted is None else tuple(map(int, counted)), beginning[:plain])
    except (struct.error, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def first_words(document: bytes) -> str:
    """Of what an answer says, or of what is asked in a request; either may be cut off anywhere. "": it says nothing."""
    try:
        said: Any = jiter.from_json(document, partial_mode="trailing-strings")
    except ValueError:
        return ""
    if isinstance(said, dict) and isinstance(messages := said.get("messages"), list):
        # What is asked comes after the documents that it is about.
        asked = [text for message in messages if _is_users(message) for text in _texts(message.get("content"))]
        said = asked[-1] if asked else messages
    elif isinstance(said, dict) and (texts := _texts(said.get("content"))):
        said = texts[0]
    elif isinstance(said, dict) and list(said) == ["request"]:  # of aicache.remember
        said = said["request"]
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    words = " ".join(text[: LONGEST * 4].split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def _is_users(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    return [text for block in blocks if isinstance(text := block.get("text"), str) and text.strip()]
