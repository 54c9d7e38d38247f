"""Stands between the SDK and upstream, once for each HTTP attempt."""

from __future__ import annotations

import logging
from typing import Any

from anthropic import APIResponse as Response
from anthropic import AsyncAPIResponse as AsyncResponse
from anthropic import Middleware
from opentelemetry import trace

from aicache.cache import get_cache
from aicache.claude import response as responses
from aicache.claude.request import Attempt, attempt
from aicache.core.records import Called, CallInfo, Served
from aicache.ledger import counting
from aicache.reading import AsyncReading, Reading

logger = logging.getLogger("aicache")


class CacheMiddleware(Middleware):
    """``client`` is the one it was made for: its base URL and default headers are part of each key."""

    client: Any = None

    def handle(self, request: Any, call_next: Any) -> Any:
        made = attempt(self.client, request)
        if made is None:
            return call_next(request)

        def call() -> Called:
            try:
                with responses.going_out(counting.sent(made.tenant)):
                    response: Response[Any] = call_next(made.request)
                if responses.is_to_be_read(response, made):
                    response.read()
            except responses.UNREACHED as error:
                return responses.unreached(error, made)
            return responses.called(response, made)

        with made.watched():
            served = made.passed(call()) if made.ask is None else get_cache().serve(made.serving(made.ask), call)
        if isinstance(served, Reading):
            return self._begin(made, served, Response)
        given, told = self._give(made, served, Response)
        if isinstance(given, Response) and responses.is_whole(given):
            responses.mark_message(given.parse(), told)
        return given

    async def handle_async(self, request: Any, call_next: Any) -> Any:
        made = attempt(self.client, request)
        if made is None:
            return await call_next(request)

        async def call() -> Called:
            try:
                with responses.going_out(await counting.asent(made.tenant)):
                    response: AsyncResponse[Any] = await call_next(made.request)
                if responses.is_to_be_read(response, made):
                    await response.read()
            except responses.UNREACHED as error:
                return responses.unreached(error, made)
            return responses.called(response, made)

        served: Served | AsyncReading
        with made.watched():
            if made.ask is None:
                served = made.passed(await call())
            else:
                served = await get_cache().aserve(made.serving(made.ask), call)
        if isinstance(served, AsyncReading):
            return self._begin(made, served, AsyncResponse)
        given, told = self._give(made, served, AsyncResponse)
        if isinstance(given, AsyncResponse) and responses.is_whole(given):
            responses.mark_message(await given.parse(), told)
        return given

    def _begin(self, made: Attempt, reading: Reading | AsyncReading, kind: Any) -> Any:
        """What the caller gets whose answer is still to come: how its call ends is known when it has read it."""
        told = made.info(reading.served)
        made.frame.record(made.call, told)
        trace.get_current_span().set_attribute("aicache.status", told.status)
        return responses.passed_on(reading, made, told, kind)

    def _give(self, made: Attempt, served: Served, kind: Any) -> tuple[Any, CallInfo]:
        """What the caller gets: its own response, a replay of another's, or the error that another's call met."""
        told = made.info(served)
        made.record(told, served)
        trace.get_current_span().set_attribute("aicache.status", told.status)
        if served.own is not None:
            if isinstance(served.own.raw, BaseException):
                raise served.own.raw
            return responses.marked(served.own.raw, told), told
        if served.failure is not None:
            return responses.failed_again(served.failure, made, told, kind), told
        return responses.replayed(served.given, made, told, kind), told
