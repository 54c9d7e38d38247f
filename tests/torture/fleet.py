"""The processes and the server, and what is done to them: ``kill -9``, stops, and snapshots put back."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.store.servers import Server
from tests.torture.board import Board

forking: Any = multiprocessing.get_context("fork")


class Fleet:
    """``start(kind, slot)`` is run in a process forked from this one, which must have no threads."""

    def __init__(self, board: Board, start: Callable[[str, int], None], readers: int, writers: int) -> None:
        self.board = board
        self.killed: Counter[str] = Counter()
        self.strange: Counter[str] = Counter()
        self._start = start
        self._processes: dict[tuple[str, int], Any] = {}
        self._places = [("upstream", 0), ("drain", 0)]
        self._places += [("writer", slot) for slot in range(writers)] + [("reader", slot) for slot in range(readers)]
        self._stopped: dict[tuple[str, int], float] = {}

    def keep_up(self, only: str = "") -> None:
        """Starts what is not there, and counts what was killed."""
        for place in self._places:
            if only and place[0] != only:
                continue
            process = self._processes.get(place)
            if process is not None and not process.is_alive():
                process.join()
                if process.exitcode == -signal.SIGKILL:
                    self.killed[place[0]] += 1
                else:
                    self.strange[f"{place[0]}s ended with {process.exitcode}"] += 1
                process = None
            if process is None:
                if place[0] == "reader":
                    self.board.readers.set(place[1], "leading", 0)
                self._processes[place] = forking.Process(target=self._start, args=place, daemon=True)
                self._processes[place].start()
        for place, until in list(self._stopped.items()):
            if time.monotonic() >= until:
                self.signal(place, signal.SIGCONT)
                del self._stopped[place]

    def kill(self, kind: str, rng: random.Random) -> None:
        """Of the readers rather one whose call upstream is under way."""
        slots = [slot for name, slot in self._places if name == kind]
        leaders = [slot for slot in slots if kind == "reader" and self._leads(slot)]
        slot = rng.choice(leaders if leaders and rng.random() < 0.7 else slots)
        if kind == "reader" and self._leads(slot):
            self.killed["leader"] += 1
        self.signal((kind, slot), signal.SIGKILL)

    def stop(self, kind: str, rng: random.Random) -> None:
        place = (kind, rng.choice([slot for name, slot in self._places if name == kind]))
        self.signal(place, signal.SIGSTOP)
        self._stopped[place] = time.monotonic() + rng.uniform(0.1, 1.0)

    def signal(self, place: tuple[str, int], number: int) -> None:
        process = self._processes.get(place)
        if process is not None and process.is_alive():
            os.kill(process.pid, number)

    def _leads(self, slot: int) -> bool:
        return self.board.readers.get(slot, "leading") > time.monotonic_ns()

    def end(self, seconds: float) -> list[str]:
        """Waits for those that are done by themselves. → those that were not, and are killed."""
        for place in list(self._stopped):
            self.signal(place, signal.SIGCONT)
        self.board.others.set(0, "stopping", 1)
        deadline = time.monotonic() + seconds
        late = []
        for place, process in sorted(self._processes.items(), key=lambda item: item[0][0] == "upstream"):
            if place[0] == "upstream":
                self.board.others.set(0, "over", 1)
            process.join(max(deadline - time.monotonic(), 0))
            if process.is_alive():
                if place[0] != "upstream":
                    late.append(f"{place[0]} {place[1]}")
                process.kill()
                process.join()
        return late


class Memory:
    """Redis, whose snapshots are kept: it comes back empty, as it was last saved, or as it was long ago."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._rng = rng
        self._kept = directory / "snapshots"
        self._kept.mkdir()
        self._dump = directory / "redis" / "dump.rdb"
        self.server = Server(directory / "redis", logfile=str(directory / "redis.log")).start()
        self.restored: Counter[str] = Counter()
        self.flushes = 0
        self._snapshots: list[Path] = []

    def save(self) -> None:
        with suppress(Exception):  # it may be too slow just now, or hang
            self.server.save()
            kept = self._kept / f"{len(self._snapshots)}.rdb"
            shutil.copy(self._dump, kept)
            self._snapshots.append(kept)

    def flush(self) -> None:
        with suppress(Exception):  # it may hang just now
            self.server.command("FLUSHALL")
            self.flushes += 1

    def kill(self) -> None:
        self.server.kill()

    def come_back(self) -> str:
        how = self._rng.choice(("empty", "latest", "old", "old")) if self._snapshots else "empty"
        self._dump.unlink(missing_ok=True)
        if how != "empty":
            shutil.copy(self._snapshots[-1] if how == "latest" else self._rng.choice(self._snapshots), self._dump)
        self.server.start()
        self.restored[how] += 1
        return how
