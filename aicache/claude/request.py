"""One HTTP attempt as the cache sees it: whose it is, what its key is, whether it may be answered at all."""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from anthropic import Omit
from httpx2 import Timeout
from opentelemetry.trace import Span, get_current_span

from aicache.claude.prompting import manner_of, prompt_of
from aicache.claude.retry import is_tried_again
from aicache.conf import get_settings
from aicache.context import named_once
from aicache.core.callinfo import CallInfo
from aicache.core.fingerprint import Question, Unkeyable, fingerprint
from aicache.core.flow import Serving, alone, serve
from aicache.core.once import once
from aicache.core.policy import Policy, offers_tools, unanswerable
from aicache.core.prefix import Prompt
from aicache.core.records import Ask, Called, Failure, Pin, Served, Status
from aicache.frame import Frame, Reading, current, current_tenant, purged_here
from aicache.ledger import counting
from aicache.ledger.books import Books
from aicache.ledger.place import Place
from aicache.tenants import shown, tenant_digest

PATH: Final = "/v1/messages"
RAW_RESPONSE_HEADER: Final = "x-stainless-raw-response"
HEADER: Final = "idempotency-key"

# Of a client whose credential is minted for each request: equal to no other process's.
UNKNOWN_CREDENTIALS: Final = uuid.uuid4().hex

# Added to a waiter's patience: where leader and waiter allow the same time, the leader's timeout is heard first, and is
# one failure for all rather than a call upstream by each.
GRACE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Attempt:
    """``ask`` is None where the call passes the cache by, with ``status`` and ``reason`` saying why.

    ``call`` is the same for all attempts of a call. ``place``: what it is counted under. ``prompt``: as the provider's
    prompt cache sees it. ``credential``: a digest of what it is authorised with. ``before``: seconds
    that earlier attempts have waited.
    """

    client: Any
    request: Any
    url: str
    call: str
    frame: Frame
    place: Place
    ask: Ask | None
    status: Status = "miss"
    reason: str = ""
    names: frozenset[str] = frozenset()
    pin: Pin | None = None
    prompt: Prompt | None = None
    credential: str = ""
    before: float = 0.0
    span: Span = field(default_factory=get_current_span, compare=False, repr=False)

    def serving(self) -> Serving | None:
        """How it is answered; None: by its own call, of which nothing needs to be known."""
        ask, pin = self.ask, self.pin
        if ask is None:
            return None if self.prompt is None else alone(self.status, self.reason, prompt=self.prompt)
        return self._serving(ask) if pin is None else once(pin, lambda: self._serving(ask))

    def _serving(self, ask: Ask) -> Serving:
        """What only its idempotency key may answer passes all else by."""
        return serve(ask) if self.status == "miss" else alone(self.status, self.reason, prompt=self.prompt)

    def forget_streams(self) -> None:
        """Upstream does not give one where a plain call asks for it."""
        if self.prompt is not None:
            self.prompt.forms.discard("stream")

    @property
    def asked(self) -> Ask:
        """Its own ask; of what passes the cache by, one that says how its stream is to be read."""
        if self.ask is not None:
            return self.ask
        if self.prompt is None:
            raise LookupError("nobody looks at its answer")
        return Ask("", "", "", self.prompt.policy, streams=bool(self.request.stream))

    @property
    def is_plain(self) -> bool:
        """Whether the caller wants the parsed message itself, not a response around it."""
        return RAW_RESPONSE_HEADER not in {name.lower() for name in self.request.headers}

    def passed(self, called: Called) -> Served:
        failed = isinstance(called.outcome, Failure)
        return Served("error" if failed else self.status, self.reason, own=called)

    def info(self, served: Served) -> CallInfo:
        info = CallInfo.of(served, self.ask.key if self.ask else "", self.names)
        return replace(info, waited=info.waited + self.before) if 0 < self.before < math.inf else info

    @property
    def is_retry(self) -> bool:
        return bool(self.request.retries_taken > 0)

    def goes_on(self, end: Served | BaseException) -> bool:
        return is_tried_again(self.client, self.request, end)


def attempt(client: Any, request: Any) -> Attempt | None:
    """None for what is none of the cache's business. Raises what the site's own TENANT callable raises."""
    target = urlsplit(request.url)
    body = _body(request)
    request, named = _named(request)
    if request.method.lower() != "post" or target.path.rstrip("/") != PATH or body is None:
        return None
    settings, frame = get_settings(), current()
    base_url = f"{target.scheme}://{target.netloc}" if target.netloc else str(client.base_url).rstrip("/")
    call = request.options.idempotency_key or uuid.uuid4().hex
    url = f"{base_url}{target.path}"
    before = frame.waited(call) if request.retries_taken else 0.0

    def prompted(place: Place, headers: Mapping[str, str], credential: str) -> Prompt:
        shared = f"name {settings.workspace}" if settings.workspace else f"credential {credential}"
        manner = manner_of(client, url, request, body, _timeout(client, request), before)
        return prompt_of(url, body, headers, shared, policy, Books(place), manner)

    def passes_by(status: Status, reason: str = "", read: Reading | None = None, *, unseen: bool = False) -> Attempt:
        names = frame.named if read is None else read.names
        whose = tenant if tenant is not None or status == "unscoped" else counting.whose(current_tenant)
        place = Place(whose, model, policy.name)
        passing = Attempt(client, request, url, call, frame, place, None, status, reason, names, before=before)
        if unseen or not is_message:
            return passing
        headers = _headers(client, request)
        prompt = prompted(place, headers, _credential(client, headers))
        return replace(passing, prompt=prompt) if prompt.prefixes else passing

    tenant = None
    is_message = isinstance(request.cast_to, type) and hasattr(request.cast_to, "construct")
    policy = settings.policy(frame.policy or settings.default_policy)
    model = said if isinstance(said := body.get("model"), str) else ""
    name = frame.idempotency_key if named is None else named_once(named, HEADER)
    if not settings.enabled:
        return passes_by("bypass", "disabled", unseen=True)
    if frame.bypass:
        return passes_by("bypass", "asked")
    if bool(request.stream) != bool(body.get("stream")):  # whoever reads it expects something else than will come
        return passes_by("bypass", "stream", unseen=True)
    if (tenant := current_tenant()) is None:
        return passes_by("unscoped")
    reason = unanswerable(body, policy)
    if reason is not None and name is None:  # under a key it is the same call again, which nothing can be wrong with
        return passes_by("bypass", reason)
    if not is_message:
        return passes_by("bypass", "cast_to")
    read = frame.read(tenant)
    if read.status is not None:
        return passes_by(read.status, read.reason, read)
    headers = _headers(client, request)
    question = Question(
        path=target.path,
        base_url=base_url,
        body=body,
        headers=headers,
        query=_query(client, request, target.query),
        locale=frame.locale,
        tags=read.names,
        sources=read.versions,
        vary=frame.vary,
        variant=frame.variant,
    )
    try:
        print_ = fingerprint(question)
    except Unkeyable:
        return passes_by("bypass", "unkeyable", read)
    timeout, streams = _timeout(client, request), bool(request.stream)
    credential = _credential(client, headers)
    place = Place(tenant, model, policy.name)
    prompt = prompted(place, headers, credential)
    ask = Ask(
        key=print_.key,
        lineage=print_.lineage,
        tenant=tenant_digest(tenant),
        policy=policy,
        refresh=frame.refresh,
        credential=credential,
        attempt=request.retries_taken,
        timeout=timeout,
        patience=_patience(policy, timeout),
        tags=read.tags,
        sources=read.versions,
        owner=shown(tenant),
        model=model,
        body=body if settings.store_requests else None,
        circumstances=frame.circumstances if settings.store_requests else None,
        streams=streams,
        live=streams and (policy.store_tool_use or not offers_tools(body)),
        prompt=prompt,
    )
    if purged_here(ask):
        return passes_by("bypass", "uncommitted:answer", read)
    status: Status = "miss" if reason is None else "bypass"
    pin = None if name is None else Pin(name, ask, question)
    own = prompt, credential, before
    return Attempt(client, request, url, call, frame, place, ask, status, reason or "", read.names, pin, *own)


def _named(request: Any) -> tuple[Any, str | None]:
    """The request without its idempotency key, which is for us, and that."""
    found = [name for name in request.headers if name.lower() == HEADER]
    if not found:
        return request, None
    kept = {name: value for name, value in request.headers.items() if name not in found}
    given = request.headers[found[-1]]
    return request.copy(headers=kept), None if isinstance(given, Omit) else given


def _body(request: Any) -> Mapping[str, Any] | None:
    body = request.json
    if not isinstance(body, Mapping):
        return None
    extra = request.options.extra_json
    return {**body, **extra} if extra else body


# Where on its platform a client asks: what makes the path and the signature of its requests later than we see them.
PLACES: Final = ("project_id", "project", "region", "aws_region", "location", "workspace_id")


def _headers(client: Any, request: Any) -> dict[str, str]:
    """What will be sent: the HTTP client's own headers, over them the SDK client's, over them the request's.

    With them, under names that no header can have, what a client of another platform puts elsewhere.
    """
    headers = {name.lower(): value for name, value in client._client.headers.items()}
    for name in PLACES:
        if isinstance(place := getattr(client, name, None) or getattr(client, f"_{name}", None), str):
            headers[f"client {name}"] = place
    for name, value in client.default_headers.items():
        if not isinstance(value, Omit):
            headers[name.lower()] = value
    for name, value in request.headers.items():
        if isinstance(value, Omit):
            # Some clients send their default all the same: neither with it nor without it, but a key of its own.
            if (default := headers.pop(name.lower(), None)) is not None and not name.lower().startswith("x-stainless-"):
                headers[f"{name.lower()} omitted"] = default
        else:
            headers[name.lower()] = value
    return headers


def _query(client: Any, request: Any, in_url: str) -> tuple[tuple[str, str], ...]:
    given = {**client.default_query, **dict(request.query_params or {})}
    everything = [*client._client.params.multi_items(), *parse_qsl(in_url, keep_blank_values=True), *given.items()]
    return tuple((name, str(value)) for name, value in everything)


def _timeout(client: Any, request: Any) -> float | None:
    given = request.timeout
    if given is not None and not isinstance(given, int | float | Timeout):
        given = client.timeout
    if isinstance(given, Timeout):
        given = given.read
    return None if given is None else float(given)


def _patience(policy: Policy, timeout: float | None) -> float:
    own = math.inf if timeout is None else timeout + GRACE
    return own if policy.wait is None else min(own, policy.wait)


def _credential(client: Any, headers: Mapping[str, str]) -> str:
    """A digest that is equal only where the credential is. A provider that mints tokens is known by its object."""
    known = [headers.get("authorization", ""), headers.get("x-api-key", "")]
    if not any(known):
        known = [UNKNOWN_CREDENTIALS, str(os.getpid()), str(id(client))]
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
