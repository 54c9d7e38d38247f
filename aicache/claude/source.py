"""The body of upstream's own stream, decoded, as it comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2

from aicache.core.recording import Recording
from aicache.core.records import Answer, Called, Headers
from aicache.ledger.prices import Price

# Counts what an answer costs, once, and says it.
PriceOf = Callable[[Any], Price]
Whole = Callable[[Recording, Exception | None], Called | None]


class _Source:
    """``headers``: those worth repeating. ``response``: the SDK's, until somebody takes it: who drops it unread must
    find nothing in here that holds it. ``body``: what is read.
    """

    def __init__(self, response: Any, headers: Headers, whole: Whole, price_of: PriceOf, body: Any) -> None:
        self.headers = headers
        self.whole = whole
        self._price_of = price_of
        self.response = response
        raw: httpx2.Response = response.http_response
        self.inner: Any = raw.stream
        self._is_read = False
        self._is_alone = raw.http_version.startswith("HTTP/1")  # on its connection
        self._connection: Any = raw.extensions.get("network_stream")
        # A response of our own decodes it, once: the caller's is given what comes out, and says so.
        encoding = [(name, value) for name, value in raw.headers.items() if name == "content-encoding"]
        self._shadow = httpx2.Response(raw.status_code, headers=encoding, stream=body, request=raw.request)

    def _must_be_read(self, chunk: bytes | None) -> None:
        """Where nothing more comes: else somebody has closed it, which is no end of a body."""
        if chunk is None and not self._is_read:
            raise httpx2.ReadError("the stream was closed before its end")

    def taken(self) -> Any:
        response, self.response = self.response, None
        return response

    def is_timeout(self, error: Exception) -> bool:
        return isinstance(error, httpx2.TimeoutException)

    def answer(self, body: bytes, events: bytes, message: Any) -> Answer:
        priced = self._price_of(message)
        return Answer(body, self.headers, priced.usd, priced.premium, priced.tokens, events=events)

    def over(self) -> None:
        self._price_of(None)


class _Body(httpx2.SyncByteStream):
    """Upstream's, whose connection is others' as soon as it is closed."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._lock = threading.Lock()
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._body.close()

    def shut_down(self, connection: socket.socket) -> None:
        with self._lock, suppress(OSError):
            if not self._is_closed:
                connection.shutdown(socket.SHUT_RDWR)


class Source(_Source):
    """For the sync client."""

    def __init__(self, response: Any, headers: Headers, whole: Whole, price_of: PriceOf) -> None:
        self._body = _Body(response.http_response.stream)
        super().__init__(response, headers, whole, price_of, self._body)
        self._chunks = self._read()

    def pull(self) -> bytes | None:
        chunk = next(self._chunks, None)
        self._must_be_read(chunk)
        return chunk

    def _read(self) -> Iterator[bytes]:
        yield from self._shadow.iter_bytes()
        self._is_read = True

    def close(self) -> None:
        self._shadow.close()

    def interrupt(self) -> None:
        held = None if self._connection is None else self._connection.get_extra_info("socket")
        if self._is_alone and held is not None:
            self._body.shut_down(held)


class AsyncSource(_Source):
    """Who is cancelled as it waits for a piece has closed it."""

    def __init__(self, response: Any, headers: Headers, whole: Whole, price_of: PriceOf) -> None:
        super().__init__(response, headers, whole, price_of, response.http_response.stream)
        self._chunks = self._read()

    async def pull(self) -> bytes | None:
        chunk = await anext(self._chunks, None)
        self._must_be_read(chunk)
        return chunk

    async def _read(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._shadow.aiter_bytes():
            yield chunk
        self._is_read = True

    async def close(self) -> None:
        with suppress(RuntimeError):  # the loop that ends is at it too
            await self._chunks.aclose()
        await self._shadow.aclose()

    def interrupt(self) -> None:
        """There is no other thread."""
