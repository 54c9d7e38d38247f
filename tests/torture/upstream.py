"""The stand-in for Claude: reads the rows at the moment of the call, and says their versions, some much later."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.torture.board import Board
from tests.torture.place import Truth

SLOW = 0.06  # the share of calls that take long


def latency(rng: random.Random) -> float:
    return rng.uniform(0.3, 1.5) if rng.random() < SLOW else rng.uniform(0.0, 0.05)


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in text.rpartition(" ")[2].split(",")]


def run(board: Board, configuration: dict[str, Any], port: int, seed: int) -> None:
    truth, rng = Truth(configuration), random.Random(seed)

    def answer(received: Received) -> Reply:
        versions, late = truth.versions(numbers_in(received.text)), latency(rng)
        reader = received.body.get("metadata", {}).get("user_id", "")
        if reader:
            board.readers.set(int(reader), "leading", time.monotonic_ns() + int(late * 1e9))
        return Reply.text(json.dumps(versions), latency=late)

    server = ClaudeServer(port=port)
    server.answer = answer
    with server:
        while not board.others.get(0, "over"):
            time.sleep(0.1)
