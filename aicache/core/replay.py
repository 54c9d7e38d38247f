"""A kept answer as a stream: as it came, or as it might have; at once, or as fast as somebody reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aicache.core.folding import unfolded
from aicache.core.records import Answer
from aicache.core.sse import Cutter, read, written

# Characters of a delta of what was never streamed, where it is to look as if.
STEP: Final = 12


def events(answer: Answer) -> bytes:
    """All of it, for who wants it at once."""
    return answer.events or b"".join(map(written, unfolded(json.loads(answer.body))))


def paced(answer: Answer, pace: float) -> Iterator[tuple[float, bytes]]:
    """Its events, each with the seconds to wait before it. ``pace``: characters per second."""
    if answer.events:
        for event in Cutter().cut(answer.events):
            yield _characters(read(event)[1]) / pace, event
    else:
        for said in unfolded(json.loads(answer.body), STEP):
            yield _length(said) / pace, written(said)


def _characters(data: str) -> int:
    try:
        return _length(json.loads(data))
    except ValueError:
        return 0


def _length(said: Any) -> int:
    """How much of it a person reads."""
    delta = said.get("delta") if isinstance(said, Mapping) else None
    if not isinstance(delta, Mapping):
        return 0
    return sum(len(part) for field in ("text", "thinking", "partial_json") if isinstance(part := delta.get(field), str))
