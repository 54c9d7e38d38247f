"""The torture: writers change rows while readers ask about them, and whoever is at it is killed at any moment.

    python -m tests.torture --seconds 60 --writers 8 --readers 16 [--seed N] [--database sqlite] [--mutant NAME]

Real processes, a PostgreSQL or SQLite database, a Valkey and a stand-in for Claude, all of its own. Fails where one
answer was stale, where a reader or a writer met an error, or where there were too few hits to mean anything.

What is asserted, and when. Each row has a version, which its one writer counts up, and which is no part of any key or
question: the stand-in reads the versions from the database at the moment of the call. What is acknowledged is published
in memory that all share, in the order in which it happens, without any clock:

- A version is *acknowledged* by its writer once save() or invalidate() has returned and the process's signals say that
  the stamps were drawn. A save that is pending (Redis away, ``pending`` sent) acknowledges nothing, nor does one that
  is killed.
- What was pending is acknowledged by the drain: it reads the committed versions, runs ``drain_invalidations`` to its
  end, and only then publishes those that it had read. What is committed later waits for the next one.

A reader notes what is acknowledged *before* it begins, and the answer, whoever made it and whatever its status, must
not tell an older version. Strict readers note the versions that are *committed* instead, acknowledged or not. When all
is over and drained, a new process asks every question once more and must be told what the database says.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.cells import LEAST
from tests.torture.mutants import MUTANTS


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hits", type=int, default=0, help="goes on, on a busy machine, until there were so many")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--cells", type=int, default=32, help="rows that are written and asked about")
    parser.add_argument("--seed", type=int, default=None, help="of what is done to whom; the kernel decides the rest")
    parser.add_argument("--database", choices=("auto", "postgresql", "sqlite"), default="auto")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a mistake in the product; ends with the first find")
    parser.add_argument("--log", type=Path, help="keeps what aicache and the processes have logged")
    chosen = parser.parse_args(given)
    if chosen.cells < LEAST:
        parser.error(f"argument --cells: {chosen.cells}: at least {LEAST} are needed")
    return chosen


def main() -> int:
    chosen = arguments()
    seed = chosen.seed if chosen.seed is not None else random.randrange(10**6)
    from tests.torture.run import torture

    print(f"seed {seed}, process {os.getpid()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="aicache-torture-") as directory:
        return torture(chosen, seed, Path(directory))


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.1f} s in all")
    sys.exit(code)
