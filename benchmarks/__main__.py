"""Speed, as ratios to a floor that is measured in the same run.

    python -m benchmarks [counting] [dashboard] [flight] [gate] [hit] [outage] [purge] [saving] [stream]

Embedded Valkey and the stand-in for the Claude API; nothing need be running.
"""

from __future__ import annotations

import os
import sys

from aicache.testing.valkey import Valkey

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
NAMES = ("counting", "dashboard", "flight", "gate", "hit", "outage", "purge", "saving", "stream")


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in NAMES]:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    with Valkey() as server:
        os.environ["AICACHE_BENCH_REDIS"] = server.url
        import django

        django.setup()
        from benchmarks import counting, dashboard, flight, gate, hit, outage, purge, saving, stream

        for benchmark in (counting, dashboard, flight, gate, hit, outage, purge, saving, stream):
            if not names or benchmark.__name__.rpartition(".")[2] in names:
                benchmark.run(server)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
