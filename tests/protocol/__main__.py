"""Searches the worlds, and shows what each mistake does.

python -m tests.protocol                        # about half a minute
python -m tests.protocol --large                # larger worlds too: some minutes
python -m tests.protocol blind_waiter old_stamp # these mistakes only, step by step
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.protocol.mistakes import HARMLESS, LIMITS, MISTAKES, ROUGH
from tests.protocol.search import Found, search
from tests.protocol.world import World
from tests.protocol.worlds import LARGE, WORLDS


def numbered(steps: Iterable[str]) -> Iterator[str]:
    return (f"{at:>3}  {step}" for at, step in enumerate(steps, 1))


def shown(name: str, world: World, *, sorts: bool = True) -> Found:
    began = time.perf_counter()
    found = search(world, sorts=sorts)
    end = f"STALE after {len(found.counterexample)} steps" if found.counterexample else "never stale"
    print(f"{name:<52} {found.states:>9,} states {time.perf_counter() - began:>6.1f} s   {end}", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description="The protocol of freshness, checked.")
    parser.add_argument("--large", action="store_true", help="larger worlds too")
    parser.add_argument("mistakes", nargs="*", metavar="mistake", help=", ".join(MISTAKES | LIMITS))
    asked = parser.parse_args(arguments)
    known = MISTAKES | LIMITS
    if unknown := set(asked.mistakes) - set(known):
        parser.error(f"no such mistake: {', '.join(sorted(unknown))}")
    wrong = 0
    if not asked.mistakes:
        for name, world in (WORLDS | (LARGE if asked.large else {})).items():
            found = shown(name, world)
            wrong += bool(found.counterexample)
            print(*numbered(found.counterexample), sep="\n", end="\n" if found.counterexample else "")
        for name in HARMLESS:
            wrong += any(shown(name, replace(world, mistake=name)).counterexample for world in ROUGH)
    for name in asked.mistakes or known:
        found = shown(name, replace(known[name].world, mistake=name), sorts=False)
        print(f"     {known[name].says}", *numbered(found.counterexample), sep="\n")
        wrong += not found.counterexample
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
