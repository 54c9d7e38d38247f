"""Stands between the SDK and upstream, once for each HTTP attempt."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from anthropic import APIResponse as Response
from anthropic import AsyncAPIResponse as AsyncResponse
from anthropic import Middleware

from aicache import outcome
from aicache.cache import Cache, get_cache
from aicache.claude import given
from aicache.claude import response as responses
from aicache.claude.prompting import outgoing
from aicache.claude.request import Attempt, attempt
from aicache.core.operations import Form
from aicache.core.records import Called, Served
from aicache.ledger import counting
from aicache.reading import AsyncReading, Reading
from aicache.store.line import loop_runs

logger = logging.getLogger("aicache")


class CacheMiddleware(Middleware):
    """``client`` is the one it was made for: its base URL and default headers are part of each key."""

    client: Any = None

    def handle(self, request: Any, call_next: Any) -> Any:
        if (asked := attempt(self.client, request)) is None:
            return call_next(request)
        made, cache = _with_cache(asked)

        def call(form: Form) -> Called:
            response: Any = None
            sent = counting.sent(made.place)
            try:
                with responses.going_out(sent):
                    response = call_next(outgoing(made.request, made.prompt, form, made.client))
                if responses.is_to_be_read(response, made, form):
                    response.read()
                responses.answered(response, sent)
                return responses.called(response, made, form, sent)
            except responses.UNREACHED as error:
                return responses.unreached(error, made, sent)
            except BaseException:  # such as a soft time limit: nobody else would give its connection back
                counting.failed(sent)
                if response is not None:
                    given.http_of(response).close()
                raise

        served: Served | Reading
        outcome.began(made)
        try:
            serving = made.serving()
            served = made.passed(call("own")) if serving is None or cache is None else cache.serve(serving, call)
        except BaseException as error:
            outcome.raised(made, error)
            raise
        if isinstance(served, Reading):
            return given.passed_on(served, made, Response)
        told = made.info(served)
        outcome.ended(made, told, served)
        response = given.given(served, made, told, Response)
        if isinstance(response, Response) and given.is_whole(response):
            given.mark_message(response.parse(), told)
        return response

    async def handle_async(self, request: Any, call_next: Any) -> Any:
        if (asked := attempt(self.client, request)) is None:
            return await call_next(request)
        made, cache = _with_cache(asked, is_here=loop_runs())

        async def call(form: Form) -> Called:
            response: Any = None
            sent = await counting.asent(made.place)
            try:
                with responses.going_out(sent):
                    response = await call_next(outgoing(made.request, made.prompt, form, made.client))
                if responses.is_to_be_read(response, made, form):
                    await response.read()
                responses.answered(response, sent)
                return responses.called(response, made, form, sent)
            except responses.UNREACHED as error:
                return responses.unreached(error, made, sent)
            except BaseException:
                counting.failed(sent)
                if response is not None:
                    await given.http_of(response).aclose()
                raise

        served: Served | AsyncReading
        outcome.began(made)
        try:
            serving = made.serving()
            if serving is None or cache is None:
                served = made.passed(await call("own"))
            else:
                served = await cache.aserve(serving, call)
        except BaseException as error:
            await outcome.araised(made, error)
            raise
        if isinstance(served, AsyncReading):
            return given.passed_on(served, made, AsyncResponse)
        told = made.info(served)
        await outcome.aended(made, told, served)
        response = given.given(served, made, told, AsyncResponse)
        if isinstance(response, AsyncResponse) and given.is_whole(response):
            given.mark_message(await response.parse(), told)
        return response


def _with_cache(made: Attempt, *, is_here: bool = True) -> tuple[Attempt, Cache | None]:
    """What passes the cache by is measured where there is one and it ``is_here``, and passed on untouched where there
    is none. Raises ImproperlyConfigured where anything else is asked."""
    if made.ask is not None:
        return made, get_cache()
    if made.prompt is not None and is_here:
        try:
            return made, get_cache()
        except Exception:
            logger.info("a call that passes the cache by is not measured", exc_info=True)
    return replace(made, prompt=None), None
