"""Bodies of the responses that a caller streams: read through a flow, or from what is kept."""

from __future__ import annotations

import _thread
import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx2


class _Body:
    """``inner``: upstream's own body, where there is one: the SDK keeps things on it that it looks for later."""

    def __init__(self, reading: Any, inner: Any = None) -> None:
        self._reading = reading
        self._inner = inner

    @property
    def stream_observer(self) -> Any:
        return getattr(self._inner, "stream_observer", None)

    @property
    def elapsed(self) -> timedelta | None:
        return timedelta(0) if self._inner is None else getattr(self._inner, "elapsed", None)


class Body(_Body, httpx2.SyncByteStream):
    """Reads a ``Reading``."""

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._reading.read()) is not None:
            yield piece

    def close(self) -> None:
        self._reading.leave()

    def __del__(self) -> None:
        """Its caller may drop it, read to the end or not. Whoever collects it may hold any lock, so another does it."""
        if not self._reading.is_done:
            with suppress(RuntimeError):  # the interpreter ends
                _thread.start_new_thread(self._reading.leave, ())


class AsyncBody(_Body, httpx2.AsyncByteStream):
    """Reads an ``AsyncReading``."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._reading.read()) is not None:
            yield piece

    async def aclose(self) -> None:
        await self._reading.leave()

    def __del__(self) -> None:
        self._reading.leave_soon()


class Paced(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Pieces, each after so many seconds. ``elapsed`` is for httpx2."""

    elapsed = timedelta(0)

    def __init__(self, pieces: list[tuple[float, bytes]]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for seconds, piece in self._pieces:
            time.sleep(seconds)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for seconds, piece in self._pieces:
            await asyncio.sleep(seconds)
            yield piece
