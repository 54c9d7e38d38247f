"""Streams: the first event, a hundred followers of one leader, and a kept stream, each against its floor."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import Any, Self

from aicache.testing.control import ClaudeControl
from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title
from benchmarks.streamer import DELTA, Times

PAIRS = 200
PROCESSES, STREAMS, PLAINS, ROUNDS = 4, 22, 3, 4
PACE, LATENCY = 0.03, 1.0  # s: all followers have come before the first event
TEXT = "What is said to all, " * 56  # about 100 events
SHORT = TEXT[: 10 * DELTA]
LONG, REPLAYS = TEXT * 5, 300
FOLLOWERS = PROCESSES * (STREAMS + PLAINS)


class Worker:
    """``python -m benchmarks.streamer`` under way."""

    def __init__(self, job: dict[str, Any]) -> None:
        words = [sys.executable, "-m", "benchmarks.streamer", json.dumps(job)]
        self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, do: str, **more: Any) -> Self:
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._popen.stdin.flush()
        return self

    def hear(self) -> Any:
        assert self._popen.stdout is not None
        return json.loads(self._popen.stdout.readline())

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()


def run(server: Valkey) -> None:
    with ExitStack() as stack:
        claude = stack.enter_context(_upstream())
        database = stack.enter_context(tempfile.TemporaryDirectory()) + "/stream.sqlite3"
        job = {"claude": claude.url, "redis": server.url, "database": database}

        def worker(**more: Any) -> Worker:
            made = Worker({**job, **more})
            stack.callback(made.end)
            return made

        first = worker(migrates=True)
        assert first.hear() == "ready"
        simple, leader, *others = workers = [worker(database=""), *(worker() for _ in range(PROCESSES + 1))]
        for other in workers:
            assert other.hear() == "ready"
        _first_event(claude, {"no database": simple, "a database": first})
        _shared(claude, first, leader, others)
        _replayed(claude, first)


@contextmanager
def _upstream() -> Iterator[ClaudeControl]:
    words = [sys.executable, "-m", "aicache.testing", "--with-parent"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield ClaudeControl(process.stdout.readline().strip())
        finally:
            process.terminate()


def _first_event(claude: ClaudeControl, workers: dict[str, Worker]) -> None:
    title(f"The first event of a stream, {PAIRS} pairs of calls (promised: at most 5 ms later than without the cache)")
    for colour in ("sync", "async"):
        for where, worker in workers.items():
            claude.set(reset=True, script=[{"text": SHORT, "pace": 0.002}] * 2 * PAIRS)
            plain, ours = worker.tell("first", colour=colour, pairs=PAIRS).hear()
            assert claude.count == 2 * PAIRS
            row(f"{colour}, without the cache (floor)", plain)
            row(f"{colour}, aicache, {where}", ours, plain)
            later = median(with_it - without for without, with_it in zip(plain, ours, strict=True))
            print(f"  {'':<34} in the median of pairs {later * 1e3:.1f} ms later", flush=True)


def _shared(claude: ClaudeControl, beside: Worker, leader: Worker, others: list[Worker]) -> None:
    title(
        f"One leader, {FOLLOWERS} followers in {PROCESSES} processes, {PROCESSES * PLAINS} of them plain; "
        f"{ROUNDS} rounds, an event each {PACE * 1e3:.0f} ms"
    )
    alone, followed = _Rounds(), _Rounds()
    bare: Times = []
    for at in range(-1, ROUNDS):  # the first of each warms up
        progress(f"round {at + 1} of {ROUNDS}")
        bare_lags = _bare_round(claude, leader, others)
        for rounds, followers in ((alone, []), (followed, others)):
            told = _round(claude, beside, leader, followers)
            if at >= 0:
                rounds.add(*told)
        if at >= 0:
            bare += bare_lags
    print("  From the first event to the last:")
    row("beside, without the cache (floor)", alone.beside)
    row("the leader, alone", alone.leader, alone.beside)
    row("beside it, while it is followed", followed.beside, alone.beside)
    row("the leader, followed", followed.leader, alone.leader)
    print(
        f"  followers slow their leader down by a factor of {median(followed.leader) / median(alone.leader):.3f}, and "
        f"who streams beside by {median(followed.beside) / median(alone.beside):.3f} (promised: not measurably)"
    )
    print("  From the socket to the caller, for each event:")
    _row("beside, without the cache (floor)", followed.beside_waits)
    _row("the leader, alone", alone.leader_waits, followed.beside_waits)
    _row("the leader, followed", followed.leader_waits, followed.beside_waits)
    print("  After its leader, for each event and follower (promised: at most 50 ms in the median):")
    _row("PUBLISH and one queue each (floor)", bare)
    _row("streaming followers", followed.lags, bare)
    _row("the same, after its leader's socket", followed.socket_lags, bare)
    _row("plain ones, after its end", followed.ends, bare)
    print(f"  upstream calls in each round: {followed.calls / ROUNDS:g}; followers: {dict(followed.statuses)}")


class _Rounds:
    """What came of them; in seconds."""

    def __init__(self) -> None:
        self.leader: Times = []
        self.beside: Times = []
        self.leader_waits: Times = []
        self.beside_waits: Times = []
        self.lags: Times = []
        self.socket_lags: Times = []
        self.ends: Times = []
        self.statuses: Counter[str] = Counter()
        self.calls = 0

    def add(self, beside: dict[str, Any], leader: dict[str, Any], others: list[dict[str, Any]], calls: int) -> None:
        (led,), (stood,) = leader["streams"], beside["streams"]
        self.leader.append(led[-1] - led[0])
        self.beside.append(stood[-1] - stood[0])
        self.leader_waits += [had - came for had, came in zip(led, leader["socket"], strict=True)]
        self.beside_waits += [had - came for had, came in zip(stood, beside["socket"], strict=True)]
        for other in others:
            for seen in other["streams"]:
                self.lags += [had - first for had, first in zip(seen, led, strict=True)]
                self.socket_lags += [had - came for had, came in zip(seen, leader["socket"], strict=True)]
            self.ends += [had - led[-1] for had in other["plains"]]
            self.statuses.update(other["statuses"])
        self.calls += calls


def _round(claude: ClaudeControl, beside: Worker, leader: Worker, others: list[Worker]) -> tuple[Any, Any, Any, int]:
    claude.set(reset=True, script=[{"text": TEXT, "pace": PACE, "latency": LATENCY}] * 2)
    words = uuid.uuid4().hex
    beside.tell("ask", how="plain", streams=1, words=words)
    leader.tell("ask", how="ours", streams=1, words=words)
    while claude.count < 2:
        time.sleep(0.01)
    for other in others:
        other.tell("ask", how="ours", streams=STREAMS, plains=PLAINS, words=words)
    told = leader.hear(), beside.hear(), [other.hear() for other in others]
    return told[1], told[0], told[2], claude.count - 1


def _bare_round(claude: ClaudeControl, leader: Worker, others: list[Worker]) -> Times:
    claude.set(reset=True, script=[{"text": TEXT, "pace": PACE, "latency": LATENCY}])
    channel = uuid.uuid4().hex
    for other in others:
        other.tell(
            "bare", channel=channel, queues=STREAMS, events=len(TEXT) // DELTA + 5
        )  # that the SDK gives: pings apart
    for other in others:
        assert other.hear() == "listening"
    led = leader.tell("ask", how="plain", streams=1, words=channel, channel=channel).hear()["streams"][0]
    followed = [seen for other in others for seen in other.hear()]
    return [had - first for seen in followed for had, first in zip(seen, led, strict=True)]


def _replayed(claude: ClaudeControl, worker: Worker) -> None:
    title(f"A stream of {len(LONG) // DELTA} deltas that is kept, {REPLAYS} times")
    claude.set(reset=True, script=[{"text": LONG}] * (REPLAYS + 2))
    memory, upstream, ours = worker.tell("replay", times=REPLAYS).hear()
    row("the SDK, reading it from memory (floor)", memory)
    row("aicache", ours, memory)
    row("from the stand-in, without pace", upstream, memory)
    print(f"  a replay takes {median(ours) / median(upstream):.2f} times as long as reading it from the stand-in")


def _row(name: str, values: Times, floor: Times | None = None) -> None:
    progress("\r")
    told = f"  {name:<34} median {median(values) * 1e3:7.2f} ms   95 % {_most(values) * 1e3:7.2f} ms   "
    told += f"max {max(values) * 1e3:7.1f} ms"
    if floor is not None:
        told += f"   ratio {median(values) / median(floor):5.2f}   {_most(values) / _most(floor):5.2f}"
    print(told, flush=True)


def _most(values: Times) -> float:
    return quantiles(values, n=20, method="inclusive")[18]
