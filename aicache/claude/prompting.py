"""A request to the provider's prompt cache: who may share its prefixes, and what goes out when others wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import anthropic

from aicache.core.operations import Form
from aicache.core.policy import Policy
from aicache.core.prefix import Manner, Prompt
from aicache.ledger.books import Books

WORKSPACE: Final = "anthropic-workspace-id"
BETAS: Final = "anthropic-beta"
# Their streams are no server-sent events, which could be put together again.
NO_EVENTS: Final = (anthropic.AnthropicBedrock, anthropic.AsyncAnthropicBedrock)


# An address that turned out to give no streams is not asked for one for so many seconds.
ASK_AGAIN: Final = 600.0
_streamless: dict[str, float] = {}


class Forms(set[Form]):
    """In which a plain call may be made where others wait for it."""

    def __init__(self, url: str, forms: Iterable[Form]) -> None:
        super().__init__(forms)
        self._url = url
        if time.monotonic() < _streamless.get(url, 0):
            super().discard("stream")

    def discard(self, form: Any, /) -> None:
        super().discard(form)
        if form == "stream":
            _streamless[self._url] = time.monotonic() + ASK_AGAIN


def prompt_of(
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    shared: str,
    policy: Policy,
    books: Books,
    manner: Manner,
) -> Prompt:
    """``headers``: those that will be sent, in lower case. ``shared``: who has the workspace, where the request does
    not say."""
    return Prompt(body, lambda: _scope(url, body, headers, shared), policy, books, manner)


def _scope(url: str, body: Mapping[str, Any], headers: Mapping[str, str], shared: str) -> list[str]:
    own = {name: value for name, value in headers.items() if name.startswith("anthropic-") and name != BETAS}
    workspace = "named" if WORKSPACE in own or "workspace_id" in body else shared
    betas = sorted({beta.strip() for beta in headers.get(BETAS, "").split(",")} - {""})
    return [url, workspace, *betas, *(f"{name}: {value}" for name, value in sorted(own.items()))]


def manner_of(
    client: Any, url: str, request: Any, body: Mapping[str, Any], timeout: float | None, waited: float
) -> Manner:
    forms: list[Form] = ["prewarm"] if isinstance(client, NO_EVENTS) else ["stream", "prewarm"]
    if request.stream or body.get("max_tokens") == 0:  # that is a pre-warm already
        forms = []
    return Manner(Forms(url, forms), timeout, waited)


def outgoing(request: Any, prompt: Prompt | None, form: Form, client: Any) -> Any:
    """The request as it is sent: with breakpoints where they are placed, and in that form."""
    if prompt is None or (form == "own" and prompt.body is prompt.given):
        return request
    body = dict(prompt.body)
    if form == "stream":
        body["stream"] = True
    elif form == "prewarm":
        body = {**body, "max_tokens": 0}
    copied = request.copy(body=body)
    copied.options.extra_json = None  # it is in the body
    if form == "stream":
        copied.stream, copied.stream_cls = True, getattr(client, "_default_stream_cls", None)
    return copied
