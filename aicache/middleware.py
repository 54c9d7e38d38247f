"""A scope for each request: whose it is, and in which language."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import get_language

from aicache.conf import get_settings
from aicache.context import scope
from aicache.frame import TENANT_SETTING, Frame, current, resumed
from aicache.tenants import Tenant, normalised


class ScopeMiddleware:
    """Opens a scope per request from ``AICACHE["TENANT"]`` and the active locale; place it last.

    Sync and async stacks. A streaming response is produced inside the scope too. A request whose tenant is nobody
    (None) has a scope without one: its calls are ``unscoped``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._aserve(request)
        with _scope(self._tenant(request)):
            response: HttpResponseBase = self.get_response(request)
            return _in_scope(response, current())

    async def _aserve(self, request: HttpRequest) -> HttpResponseBase:
        with _scope(await self._atenant(request)):
            response: HttpResponseBase = await self.get_response(request)
            return _in_scope(response, current())

    def _tenant(self, request: HttpRequest) -> Tenant | None:
        source = get_settings().tenant
        if source is None:
            return None
        ask = async_to_sync(source.ask) if source.is_async else source.ask
        return normalised(ask(request) if source.takes_request else ask(), TENANT_SETTING)

    async def _atenant(self, request: HttpRequest) -> Tenant | None:
        source = get_settings().tenant
        if source is None:
            return None
        # A sync callable may well ask the database who the user is, which must not happen on the event loop.
        ask = source.ask if source.is_async else sync_to_async(source.ask)
        tenant = await (ask(request) if source.takes_request else ask())
        return normalised(await tenant if inspect.isawaitable(tenant) else tenant, TENANT_SETTING)


@contextmanager
def _scope(tenant: Tenant | None) -> Iterator[None]:
    with scope(tenant=tenant, locale=get_language()):
        source = get_settings().tenant
        # Who was asked about the request is not asked again, without it.
        nobody = tenant is None and source is not None and source.takes_request
        with resumed(replace(current(), nobody=nobody)):
            yield


def _in_scope(response: HttpResponseBase, frame: Frame) -> HttpResponseBase:
    """The view's scope, with those that the content opens itself, is open for each chunk that is made, and for nothing
    between the chunks. A file makes no calls, and keeps its server's way of sending it."""
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        content: Any = response.streaming_content  # type: ignore[attr-defined]
        chunks = _aresuming(content, frame) if response.is_async else _resuming(content, frame)  # type: ignore[attr-defined]
        response.streaming_content = chunks  # type: ignore[attr-defined]
    return response


def _resuming(content: Iterator[bytes], frame: Frame) -> Iterator[bytes]:
    chunks = iter(content)
    while True:
        with resumed(frame):
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            frame = current()
        yield chunk


async def _aresuming(content: AsyncIterator[bytes], frame: Frame) -> AsyncIterator[bytes]:
    chunks = aiter(content)
    while True:
        with resumed(frame):
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            frame = current()
        yield chunk
