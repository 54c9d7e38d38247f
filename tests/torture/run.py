"""One run: sets everything up, hurts it for a while, and says what came of it."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from aicache.core.tags import Tag
from aicache.testing.valkey import free_port
from tests.store.servers import until
from tests.torture import mutants, place
from tests.torture.board import Board
from tests.torture.cells import cells_for, questions_of
from tests.torture.fleet import Fleet, Memory, forking
from tests.torture.report import Report

TICK = 0.05
LONGER = 8  # times as long as was asked for, at most, where there were too few hits
PATIENCE = 20.0  # seconds in which everybody must have come to an end


def torture(chosen: argparse.Namespace, seed: int, directory: Path) -> int:
    rng = random.Random(seed)
    cells = cells_for(chosen.cells, chosen.writers, rng)
    questions = questions_of(cells, rng)
    board = Board(chosen.cells, chosen.readers, chosen.writers)
    memory = Memory(directory, rng)
    log = chosen.log or directory / "log"
    log.unlink(missing_ok=True)
    try:
        with place.database(chosen.database, directory) as configuration:
            place.set_up(configuration, memory.server.url, log)
            port = free_port()
            client, aclient = place.clients(f"http://127.0.0.1:{port}")
            mutants.apply(chosen.mutant)
            fortune = random.Random(seed + 1)

            from django.db import connections

            # These import models.
            from tests.torture import audit, drainer, pages, reader, upstream, writer

            answers: dict[int, list[Tag]] = {}

            def start(kind: str, slot: int) -> None:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's
                chance = fortune.randrange(10**9) + slot
                if kind == "upstream":
                    upstream.run(board, configuration, port, chance)
                elif kind == "drain":
                    drainer.run(board, [cell.number for cell in cells], configuration)
                elif kind == "writer":
                    mine = [cell for cell in cells if cell.writer == slot]
                    writer.run(board, slot, mine, answers, configuration, chance)
                else:
                    connections.settings["default"]["CONN_MAX_AGE"] = 0  # each thread's own would be too many
                    asking = reader.Reader(board, slot, questions, configuration, chance)
                    if slot % 2:
                        asyncio.run(asking.arun(aclient))
                    else:
                        asking.run(client)

            fleet = Fleet(board, start, chosen.readers, chosen.writers)
            report = Report(chosen, seed, configuration, board, fleet, memory, log)
            late: list[str] = []
            try:
                fleet.keep_up(only="upstream")
                until(lambda: listens(port), "upstream did not start")
                answers.update(aside(pages.answers, client, questions))
                hurt(chosen, rng, fortune, board, fleet, memory, report)
            finally:
                late = fleet.end(PATIENCE if not chosen.mutant else 1.0)
            audited: list[Any] = []
            if not chosen.mutant:
                audited = aside(audit.audit, board, questions, cells, configuration) or ["the audit did not end"]
            return report.tell(late, audited)
    finally:
        memory.kill()


def hurt(
    chosen: argparse.Namespace,
    rng: random.Random,
    fortune: random.Random,
    board: Board,
    fleet: Fleet,
    memory: Memory,
    report: Report,
) -> None:
    """Until the time is over, or, with a mutant, until it is found."""
    every = {
        "snapshot": 0.7,
        "kill writer": 1.5,
        "kill reader": 1.5,
        "stop writer": 4.0,
        "stop reader": 4.0,
        "flush memory": min(6.0, max(2.0, chosen.seconds / 4)),
        "kill memory": min(6.0, max(3.0, chosen.seconds / 5)),
        "hang memory": min(15.0, chosen.seconds / 2),
    }
    began = time.monotonic()
    due = {name: began + 1.0 + rng.expovariate(1 / mean) for name, mean in every.items()}
    due["kill memory"] = began + max(1.0, every["kill memory"])
    back = awake = float("inf")
    while (now := time.monotonic()) < began + chosen.seconds or (
        board.readers.total("hit") < chosen.hits and now < began + chosen.seconds * LONGER
    ):
        fortune.random()  # so that whoever is started anew is lucky otherwise
        fleet.keep_up()
        for name in [name for name, at in due.items() if at <= now]:
            due[name] = now + rng.expovariate(1 / every[name])
            if name.endswith("memory") and now > began + chosen.seconds:
                continue  # what is waited for now is hits
            match name.split():
                case "kill", "memory" if back == float("inf"):
                    memory.kill()
                    back, awake = now + rng.choice((0.0, rng.uniform(0, 1.5))), float("inf")
                case "hang", "memory" if back == float("inf"):
                    memory.server.hang()
                    awake = now + rng.uniform(0.1, 1.0)
                case "flush", "memory" if back == awake:
                    memory.flush()
                case ("snapshot",) if back == awake:  # both never
                    memory.save()
                case ("kill" | "stop") as verb, ("writer" | "reader") as kind:
                    getattr(fleet, verb)(kind, rng)
        if now >= back:
            memory.come_back()
            back = float("inf")
        if now >= awake:
            memory.server.wake()
            awake = float("inf")
        if chosen.mutant and board.readers.total("found_stale"):
            break
        report.progress(now - began)
        time.sleep(TICK)
    if awake != float("inf"):
        memory.server.wake()
    if back != float("inf"):
        memory.come_back()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def aside(function: Any, *arguments: Any) -> Any:
    """What it returns, from a process of its own: this one has to stay without threads and connections.

    None where it does not come to an end.
    """
    here, there = forking.Pipe(duplex=False)

    def run() -> None:
        there.send(function(*arguments))

    process = forking.Process(target=run, daemon=True)
    process.start()
    there.close()
    found = None
    with suppress(EOFError):
        if here.poll(PATIENCE):
            found = here.recv()
    process.join(1)
    if process.is_alive():
        process.kill()
        process.join()
    return found
