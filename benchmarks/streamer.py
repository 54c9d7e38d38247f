"""A process in which streams are measured: it does as it is told in JSON, and says what came of it, a line each.

python -m benchmarks.streamer '{"claude": "http://…", "redis": "redis://…", "database": ""}'
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import httpx2

DELTA = 12  # characters, as the stand-in cuts them
Times = list[float]


def main(job: dict[str, Any]) -> None:
    _set_up(job)
    desk = Desk(job)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(getattr(desk, told.pop("do"))(**told)), flush=True)


def _set_up(job: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    database = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": job["database"]}}
    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["aicache"],
        DATABASES=database if job["database"] else {},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": job["redis"]}},
        AICACHE={"SINGLE_TENANT": True},
    )
    django.setup()
    if job.get("migrates"):
        from django.core.management import call_command

        call_command("migrate", verbosity=0)


class Socket(httpx2.HTTPTransport):
    """Notes when each event came, ``kept`` apart: what there is of that is given instead."""

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


class Desk:
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

    def first(self, colour: str, pairs: int) -> tuple[Times, Times]:
        """Until the first event, without the cache and with it; all the rest is read too."""
        return self._first(pairs) if colour == "sync" else asyncio.run(self._afirst(pairs))

    def _first(self, pairs: int) -> tuple[Times, Times]:
        took: dict[Any, Times] = {self._plain: [], self._ours: []}
        for client in _alternating([*took], pairs):
            began = time.perf_counter()
            events = client.messages.create(**_question(uuid.uuid4().hex), stream=True)
            next(events)
            took[client].append(time.perf_counter() - began)
            list(events)
        return took[self._plain], took[self._ours]

    async def _afirst(self, pairs: int) -> tuple[Times, Times]:
        import anthropic

        import aicache

        async with anthropic.AsyncAnthropic(base_url=self._url, api_key="k", max_retries=0) as plain:
            ours = aicache.wrap(plain)
            took: dict[Any, Times] = {plain: [], ours: []}
            for client in _alternating([*took], pairs):
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

    def bare(self, channel: str, queues: int, events: int) -> list[Times]:
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
            listener = threading.Thread(target=_tell_all, args=(pubsub, boxes, events))
            _all([*threads, listener])
        return seen

    def replay(self, times: int) -> tuple[Times, Times, Times]:
        """How long it takes to read a stream whole: from memory, from upstream, and kept."""
        asked = _question("is kept")
        with self._plain.messages.with_streaming_response.create(**asked, stream=True) as response:
            body = response.read()
        list(self._ours.messages.create(**asked, stream=True))
        took: tuple[Times, Times, Times] = ([], [], [])
        ways = (self._plain, body), (self._plain, b""), (self._ours, b"")
        for _ in range(times):
            for (client, kept), each in zip(ways, took, strict=True):
                self._socket.kept = kept
                began = time.perf_counter()
                events = list(client.messages.create(**asked, stream=True))
                each.append(time.perf_counter() - began)
                assert events[-1].type == "message_stop"
        return took


def _question(words: str) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "max_tokens": 8000, "messages": [{"role": "user", "content": words}]}


def _alternating(clients: list[Any], pairs: int) -> Iterator[Any]:
    for at in range(pairs):
        yield from clients if at % 2 else reversed(clients)


def _tell_all(pubsub: Any, boxes: list[SimpleQueue[bool]], events: int) -> None:
    for _ in range(events):
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
