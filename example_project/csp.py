"""The Content-Security-Policy of every page: nothing inline, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)


@sync_and_async_middleware
def strict(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Place it first, so that the pages of other middleware have it too."""
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> HttpResponseBase:
            return _under_policy(await get_response(request))

        return serve_async

    def serve(request: HttpRequest) -> HttpResponseBase:
        return _under_policy(get_response(request))

    return serve


def _under_policy(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response
