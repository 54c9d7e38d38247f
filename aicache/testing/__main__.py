"""`python -m aicache.testing`: a Claude API in a process of its own.

Prints its address on one line, then serves until SIGTERM or SIGINT, and exits with 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time

from aicache.testing.claude import ClaudeServer

PARENT_POLL = 0.5

ENDINGS = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aicache.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each response begins")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    options = parser.parse_args()
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # before any thread starts: each would inherit the old mask
    if options.with_parent:
        threading.Thread(target=_follow, args=(parent,), name="claude-parent", daemon=True).start()
    with ClaudeServer(port=options.port, latency=options.latency) as claude:
        print(claude.url, flush=True)
        signal.sigwait(ENDINGS)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
