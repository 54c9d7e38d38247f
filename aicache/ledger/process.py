"""Which process counts, and whether one that has counted is still there."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from aicache.core.tags import digest

PROC: Final = Path("/proc")
GONE: Final = ("Z", "X")  # it has ended, and nobody has asked how


@dataclass(frozen=True, slots=True)
class Process:
    """``id`` is its alone, whatever is the same. ``started``: tells those apart that had one number after another."""

    id: str
    host: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        return cls(uuid.uuid4().hex, host(), os.getpid(), _stat(os.getpid())[1])

    @property
    def is_gone(self) -> bool:
        """Certainly. False where it cannot be seen from here, on another machine or out of a container."""
        if self.host != host():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # somebody else's: it is there
        state, started = _stat(self.pid)
        return state in GONE or (bool(started and self.started) and started != self.started)


@cache
def host() -> str:
    """The machine's name, and what says whose numbers its processes have: two containers may share the name."""
    numbered_by = ""
    with suppress(OSError):
        numbered_by += (PROC / "sys/kernel/random/boot_id").read_text()
        numbered_by += os.readlink(PROC / "self/ns/pid")
    return f"{socket.gethostname()[:200]} {digest('host', numbered_by)[:8]}"


def _stat(pid: int) -> tuple[str, str]:
    """→ state, and when it was started; "" where that cannot be known."""
    try:
        words = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return words[0], words[19]
    except (OSError, IndexError):
        return "", ""
