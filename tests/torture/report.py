"""What a run says, as it goes on and in the end."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.torture.board import STATUSES, Board
from tests.torture.fleet import Fleet, Memory

FEWEST_HITS = 0.2  # of the reads that Redis was there for: with fewer, little was put to the test
FEWEST_READS = 5  # a second
TOLD_EVERY = 10.0


class Report:
    def __init__(
        self,
        chosen: argparse.Namespace,
        seed: int,
        configuration: dict[str, Any],
        board: Board,
        fleet: Fleet,
        memory: Memory,
        log: Path,
    ) -> None:
        self.chosen = chosen
        self.seed = seed
        self.vendor = configuration["ENGINE"].rpartition(".")[2]
        self.board = board
        self.fleet = fleet
        self.memory = memory
        self.log = log
        self._told = 0.0
        self._seconds = 0.0

    def progress(self, seconds: float) -> None:
        self._seconds = seconds
        readers = self.board.readers
        line = (
            f"{seconds:4.0f} s   reads {readers.total('reads'):6,}   saves {self.board.writers.total('saves'):5,}   "
            f"kills {self.kills():3}   stale {readers.total('found_stale')}"
        )
        if sys.stderr.isatty():
            print(f"\r\033[K  {line}", end="", file=sys.stderr, flush=True)
        elif seconds - self._told >= TOLD_EVERY:
            self._told = seconds
            print(f"  {line}", flush=True)

    def kills(self) -> int:
        killed = self.fleet.killed
        return killed["writer"] + killed["reader"] + self.memory.restored.total()

    def tell(self, late: list[str], audited: list[Any]) -> int:
        """→ the exit code."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        readers, writers, others = self.board.readers, self.board.writers, self.board.others
        reads, stale = readers.total("reads"), readers.total("found_stale")
        share = {name: readers.total(name) / max(reads, 1) for name in STATUSES}
        hits = (share["hit"] + share["stale"]) / max(1 - share["degraded"], 0.01)
        killed, restored = self.fleet.killed, self.memory.restored
        self._row("on", f"{self.vendor}, {self.chosen.writers} writers, {self.chosen.readers} readers")
        self._row("reads", f"{reads:,}  of them strict {readers.total('strict'):,}")
        self._row(
            "hits",
            f"{hits:.0%} where Redis was there;  "
            + "  ".join(f"{name} {part:.0%}" for name, part in share.items() if part),
        )
        self._row(
            "kept",
            f"{readers.total('copies')} hits of copies;  {readers.total('keys')} asked under a key, of them "
            f"{readers.total('pins')} answered by it",
        )
        self._row("saves", f"{writers.total('saves'):,}  of them purges of single answers {writers.total('purges')}")
        self._row("pending", f"{writers.total('pending')} left by savers, {others.total('drained')} applied by drains")
        self._row(
            "kills",
            f"writers {killed['writer']}, readers {killed['reader']} (leaders {killed['leader']}), "
            f"Valkey {restored.total()};  flushes {self.memory.flushes}",
        )
        self._row(
            "snapshots restored",
            f"{restored['latest'] + restored['old']} (latest {restored['latest']}, old {restored['old']}), "
            f"none {restored['empty']}",
        )
        troubles = self._troubles(late, audited, reads, hits)
        if not self.chosen.mutant and audited and isinstance(audited[0], int):
            self._row("asked afterwards", f"{audited[0]}, right all of them; kept until then {audited[1]}")
        self._row("errors", str(len(troubles)))
        self._row("stale", str(stale))
        for trouble in troubles:
            print(f"  {trouble}", file=sys.stderr)
        return 1 if stale or troubles else 0

    def _troubles(self, late: list[str], audited: list[Any], reads: int, hits: float) -> list[str]:
        """What makes a run fail beside what is stale."""
        if self.chosen.mutant:
            return []
        readers, writers, others = self.board.readers, self.board.writers, self.board.others
        counted = {
            "readers met an error": readers.total("failures"),
            "writers met an error": writers.total("failures"),
            "writes invalidated nothing": writers.total("silent"),
            "drains met an error": others.total("drain_failures"),
            **self.fleet.strange,
        }
        found = [f"{number} {what}" for what, number in counted.items() if number]
        found += [f"{name} did not come to an end" for name in late]
        found += [str(word) for word in audited if not isinstance(word, int)]
        if reads < FEWEST_READS * self._seconds:
            found.append(f"{reads} reads are too few to mean anything")
        if hits < FEWEST_HITS:
            found.append(f"{hits:.0%} hits are too few to mean anything")
        return found + self._logged()

    def _logged(self) -> list[str]:
        """Errors in the log, one of each kind, each with its traceback's end."""
        if not self.log.exists():
            return []
        records = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d \d\d:)", self.log.read_text(errors="replace"))
        kinds: Counter[str] = Counter()
        shown: dict[str, str] = {}
        for record in records:
            if " ERROR " in record or "nobody expects" in record:
                kind = re.sub(r"\d+", "N", record.strip().splitlines()[-1])
                kinds[kind] += 1
                shown.setdefault(kind, record.strip())
        return [f"{number} times in the log: {_cut(shown[kind])}" for kind, number in kinds.most_common(5)]

    def _row(self, name: str, words: str) -> None:
        print(f"  {name:<20} {words}", flush=True)


def _cut(record: str) -> str:
    """How it begins and how it ends."""
    return record if len(record) < 2500 else f"{record[:500]}\n  …\n{record[-2000:]}"
