"""Streams: the first event, a hundred followers of one leader, and a kept stream, each against its floor.

Whatever is measured happens in processes of its own, with a database, that do as they are told in JSON, a line each:
``python -m benchmarks.stream '{"claude": "http://…", "redis": "redis://…", "database": "…"}'``
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from statistics import median, quantiles
from typing import Any, Self

import httpx2

from aicache.testing.control import ClaudeControl
from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title

PAIRS = 300
PROCESSES, STREAMS, PLAINS, ROUNDS = 4, 22, 3, 4
PACE, LATENCY = 0.03, 1.0  # s: all followers have come before the first event
DELTA = 12  # characters
TEXT = "What is said to all, " * 56  # about 100 events
SHORT = TEXT[: 10 * DELTA]
LONG, REPLAYS = TEXT * 5, 300
FOLLOWERS = PROCESSES * (STREAMS + PLAINS)
EVENTS = len(TEXT) // DELTA + 5  # that the SDK gives: pings apart
Times = list[float]


class Worker:
    """``python -m benchmarks.stream`` under way."""

    def __init__(self, job: dict[str, Any]) -> None:
        words = [sys.executable, "-m", "benchmarks.stream", json.dumps(job)]
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
        workers = [worker() for _ in range(PROCESSES + 1)]
        for other in workers:
            assert other.hear() == "ready"
        _first_event(claude, first)
        _shared(claude, first, workers[0], workers[1:])
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


def _first_event(claude: ClaudeControl, worker: Worker) -> None:
    title(f"The first event of a stream, {PAIRS} pairs of calls (promised: at most 5 ms later than without the cache)")
    for colour in ("sync", "async"):
        claude.set(reset=True, script=[{"text": SHORT, "pace": 0.002}] * 2 * PAIRS)
        plain, ours = worker.tell("first", colour=colour).hear()
        assert claude.count == 2 * PAIRS
        row(f"{colour}, without the cache (floor)", plain)
        row(f"{colour}, aicache", ours, plain)
        later = median(with_it - without for without, with_it in zip(plain, ours, strict=True))
        print(f"  {colour}, in the median of pairs: {later * 1e3:.2f} ms later", flush=True)


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
    row("a stream beside, without the cache", alone.beside)
    row("the leader, alone", alone.leader, alone.beside)
    row("a stream beside, while it is followed", followed.beside, alone.beside)
    row("the leader, followed", followed.leader, alone.leader)
    print(
        f"  followers slow their leader down by a factor of {median(followed.leader) / median(alone.leader):.3f}, and "
        f"this machine by {median(followed.beside) / median(alone.beside):.3f} (promised: not measurably)"
    )
    print("  From the socket to the caller, for each event:")
    _row("beside, without the cache (floor)", followed.beside_waits)
    _row("the leader, alone", alone.leader_waits, followed.beside_waits)
    _row("the leader, followed", followed.leader_waits, followed.beside_waits)
    print("  After the leader's caller, for each event and follower (promised: at most 50 ms in the median):")
    _row("PUBLISH and one queue each (floor)", bare)
    _row("streaming followers", followed.lags, bare)
    _row("plain ones, after its end", followed.ends)
    print(f"  upstream was called {followed.calls / ROUNDS:g} times in each round; {dict(followed.statuses)}")


class _Rounds:
    """What came of them; in seconds."""

    def __init__(self) -> None:
        self.leader: Times = []
        self.beside: Times = []
        self.leader_waits: Times = []
        self.beside_waits: Times = []
        self.lags: Times = []
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
        other.tell("bare", channel=channel, queues=STREAMS)
    for other in others:
        assert other.hear() == "listening"
    led = leader.tell("ask", how="plain", streams=1, words=channel, channel=channel).hear()["streams"][0]
    followed = [seen for other in others for seen in other.hear()]
    return [had - first for seen in followed for had, first in zip(seen, led, strict=True)]


def _replayed(claude: ClaudeControl, worker: Worker) -> None:
    title(f"A stream of {len(LONG) // DELTA} deltas that is kept, {REPLAYS} times")
    claude.set(reset=True, script=[{"text": LONG}] * (REPLAYS + 2))
    memory, upstream, ours = worker.tell("replay").hear()
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


# What a worker does


def main(job: dict[str, Any]) -> None:
    _set_up(job)
    desk = _Desk(job)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(getattr(desk, told.pop("do"))(**told)), flush=True)


def _set_up(job: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": job["database"]}
    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["aicache"],
        DATABASES={"default": database},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": job["redis"]}},
        AICACHE={"SINGLE_TENANT": True},
    )
    django.setup()
    if job.get("migrates"):
        from django.core.management import call_command

        call_command("migrate", verbosity=0)


class Socket(httpx2.HTTPTransport):
    """Notes when each event came; or gives what there is in ``kept`` instead."""

    def __init__(self) -> None:
        super().__init__()
        self.came: Times = []
        self.kept = b""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.kept:
            body = httpx2.ByteStream(self.kept)
            return httpx2.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, stream=body)
        response = super().handle_request(request)
        response.stream = _Noting(response.stream, self.came)
        return response


class _Noting(httpx2.SyncByteStream):
    def __init__(self, inner: Any, came: Times) -> None:
        self._inner, self._came = inner, came

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._came += [time.time()] * (chunk.count(b"\ndata: ") - chunk.count(b"event: ping"))
            yield chunk

    def close(self) -> None:
        self._inner.close()


class _Desk:
    """Each verb returns what is said of it."""

    def __init__(self, job: dict[str, Any]) -> None:
        import anthropic

        import aicache

        self._url, self._redis = job["claude"], job["redis"]
        self._socket = Socket()
        http = anthropic.DefaultHttpxClient(transport=self._socket)
        self._plain = anthropic.Anthropic(base_url=self._url, api_key="k", max_retries=0, http_client=http)
        self._ours = aicache.wrap(self._plain)
        for client in (self._plain, self._ours, self._ours):  # as in a server that has been up for a while
            list(client.messages.create(**_question("warms up"), stream=True))
        self._ours.messages.create(**_question("warms up"))

    def first(self, colour: str) -> tuple[Times, Times]:
        """Until the first event, without the cache and with it; all the rest is read too."""
        return self._first() if colour == "sync" else asyncio.run(self._afirst())

    def _first(self) -> tuple[Times, Times]:
        took: dict[Any, Times] = {self._plain: [], self._ours: []}
        for client in _alternating(self._plain, self._ours):
            began = time.perf_counter()
            events = client.messages.create(**_question(uuid.uuid4().hex), stream=True)
            next(events)
            took[client].append(time.perf_counter() - began)
            list(events)
        return took[self._plain], took[self._ours]

    async def _afirst(self) -> tuple[Times, Times]:
        import anthropic

        import aicache

        async with anthropic.AsyncAnthropic(base_url=self._url, api_key="k", max_retries=0) as plain:
            ours = aicache.wrap(plain)
            took: dict[Any, Times] = {plain: [], ours: []}
            for client in _alternating(plain, ours):
                began = time.perf_counter()
                events = await client.messages.create(**_question(uuid.uuid4().hex), stream=True)
                await anext(events)
                took[client].append(time.perf_counter() - began)
                async for _ in events:
                    pass
        return took[plain], took[ours]

    def ask(self, how: str, streams: int, words: str, plains: int = 0, channel: str = "") -> dict[str, Any]:
        """When each event came to each who streams, and the answer to each who does not."""
        import redis

        import aicache

        client = self._ours if how == "ours" else self._plain
        asked, statuses = _question(words), Counter[str]()
        seen: list[Times] = [[] for _ in range(streams)]
        ends: Times = []
        self._socket.came.clear()

        def stream(times: Times, say: Any) -> None:
            events = client.messages.create(**asked, stream=True)
            for _ in events:
                times.append(time.time())
                say()
            if how == "ours":
                statuses[aicache.info(events).status] += 1

        def plain() -> None:
            message = client.messages.create(**asked)
            ends.append(time.time())
            statuses[aicache.info(message).status] += 1

        with redis.Redis.from_url(self._redis) as server:
            say = (lambda: server.publish(channel, b"")) if channel else (lambda: None)
            threads = [threading.Thread(target=stream, args=(times, say)) for times in seen]
            _all([*threads, *(threading.Thread(target=plain) for _ in range(plains))])
        return {"streams": seen, "plains": ends, "statuses": statuses, "socket": self._socket.came}

    def bare(self, channel: str, queues: int) -> list[Times]:
        """The least that many threads can do to hear of each event: one subscription, and a queue for each."""
        import redis

        boxes: list[SimpleQueue[bool]] = [SimpleQueue() for _ in range(queues)]
        seen: list[Times] = [[] for _ in boxes]

        def follow(box: SimpleQueue[bool], times: Times) -> None:
            while box.get():
                times.append(time.time())

        threads = [threading.Thread(target=follow, args=pair) for pair in zip(boxes, seen, strict=True)]
        with redis.Redis.from_url(self._redis) as server, server.pubsub() as pubsub:
            pubsub.subscribe(channel)
            assert pubsub.get_message(timeout=10)
            print(json.dumps("listening"), flush=True)
            listener = threading.Thread(target=_tell_all, args=(pubsub, boxes))
            _all([*threads, listener])
        return seen

    def replay(self) -> tuple[Times, Times, Times]:
        """How long it takes to read a stream whole: from memory, from upstream, and kept."""
        asked = _question("is kept")
        kept = self._plain.messages.with_streaming_response.create(**asked, stream=True)
        with kept as response:
            body = response.read()
        list(self._ours.messages.create(**asked, stream=True))
        took: tuple[Times, Times, Times] = ([], [], [])
        for _ in range(REPLAYS):
            for times, client, memory in zip(
                took, (self._plain, self._plain, self._ours), (body, b"", b""), strict=True
            ):
                self._socket.kept = memory
                began = time.perf_counter()
                events = list(client.messages.create(**asked, stream=True))
                times.append(time.perf_counter() - began)
                assert events[-1].type == "message_stop"
        return took


def _question(words: str) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 8000, "messages": [{"role": "user", "content": words}]}


def _alternating(one: Any, other: Any) -> Iterator[Any]:
    for at in range(PAIRS):
        yield from (one, other) if at % 2 else (other, one)


def _tell_all(pubsub: Any, boxes: list[SimpleQueue[bool]]) -> None:
    for _ in range(EVENTS):
        while (pubsub.get_message(timeout=10) or {}).get("type") != "message":
            pass
        for box in boxes:
            box.put(True)
    for box in boxes:
        box.put(False)


def _all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
