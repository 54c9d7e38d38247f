"""What is kept of a stream as it passes: whether it came to its end, and what its events add up to."""

from __future__ import annotations

import json
from typing import Any, Final

from aicache.core.folding import Folding
from aicache.core.sse import Cutter, as_json, read

# More of one event than that is no event that anybody sends.
LONGEST_EVENT: Final = 64 * 1024 * 1024


class Recording:
    """Fed with a body's bytes, in any chunks. Nothing that it is fed with makes it raise.

    ``is_whole``: message_stop has come. ``has_failed``: an error has come instead. ``is_spoiled``: what came is no
    stream of events. After any of them it takes no more. ``failure``: what the error says. ``size``: bytes of the
    events, pings apart.
    """

    def __init__(self) -> None:
        self.failure: Any = None
        self.is_whole = self.has_failed = self.is_spoiled = False
        self.size = 0
        self._cutter = Cutter()
        self._folding = Folding()
        self._fed = 0
        self._cut = 0
        self._last = 0

    @property
    def message(self) -> dict[str, Any] | None:
        """What the events add up to, as far as that is known."""
        return self._folding.message

    @property
    def body(self) -> bytes:
        """The same as JSON, as a plain answer would have been; b"" where it would not have been exactly this."""
        exact = self.is_whole and self._folding.is_exact and self._folding.message is not None
        try:
            return as_json(self._folding.message) if exact else b""
        except RecursionError:  # it was read with more of the stack left
            return b""

    def is_over(self) -> bool:
        """Whether it takes no more."""
        return self.is_whole or self.has_failed or self.is_spoiled

    def feed(self, chunk: bytes) -> bytes:
        """The events that end with this chunk, without pings, up to the last one."""
        if self.is_over():
            return b""
        kept = []
        try:
            for event in self._cutter.cut(chunk):
                self._last, self._cut = self._cut, self._cut + len(event)
                if not self._take(event):
                    continue
                kept.append(event)
                if self.is_over():
                    break
            if self._cutter.pending > LONGEST_EVENT:
                self.is_spoiled = True
        except (ValueError, RecursionError):  # neither UTF-8 nor JSON
            self.is_spoiled = True
        self._fed += len(chunk)
        self.size += sum(map(len, kept))
        return b"".join(kept)

    def before_last(self, chunk: bytes) -> int:
        """How many bytes of the chunk that was just fed come before the last event."""
        return max(self._last - (self._fed - len(chunk)), 0)

    def forget(self) -> None:
        """It has become too much to be kept: only what it is, no more what it says, is remembered from now on."""
        self._folding.forget()

    def _take(self, event: bytes) -> bool:
        name, data = read(event)
        if name == "ping":
            return False
        if name == "error":
            self.has_failed, self.failure = True, json.loads(data or "null")
        elif name and data:  # the SDK looks at no others
            said = json.loads(data)
            self._folding.add(said)
            self.is_whole = isinstance(said, dict) and said.get("type") == "message_stop"
        return True
