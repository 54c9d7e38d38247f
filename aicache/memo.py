"""``aicache.remember``: the same service for any other AI call."""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aicache import outcome
from aicache.cache import get_cache
from aicache.conf import get_settings
from aicache.core.callinfo import CallInfo
from aicache.core.fingerprint import Question, Unkeyable, fingerprint
from aicache.core.flow import Serving, serve
from aicache.core.once import once
from aicache.core.operations import Form
from aicache.core.records import Answer, Ask, Called, Pin, Served, Status
from aicache.errors import ArgumentError, WrongKind
from aicache.frame import Frame, Reading, current, current_tenant, purged_here
from aicache.ledger import counting
from aicache.ledger.place import Place
from aicache.ledger.prices import Price
from aicache.tenants import shown, tenant_digest

PATH: Final = "aicache.remember"
WHOLE: Final = {"type": "message", "stop_reason": "end_turn"}  # a value is whole as soon as it is there


def remember(request: Mapping[str, Any], call: Callable[[], Any]) -> Any:
    """``call()``'s value, or the one kept for an equal ``request``; scopes and promises are those of Claude calls.

    ``request``: a JSON-able mapping that says all that the value depends on; ``call``: a function of no arguments, sync
    or async, that returns a JSON-able value. Where it is async, so is this: await the result. The value is returned as
    JSON gives it back (a tuple as a list), on a miss too.

    Raises ArgumentError where request or value is no JSON, WrongKind where a sync ``call`` returns an awaitable, and
    what ``call`` raises; a failure is not kept, and who waited for it calls by itself.
    """
    if not isinstance(request, Mapping):
        raise ArgumentError(f"request is {request!r}; accepted: a JSON-able mapping")
    if not callable(call):
        raise ArgumentError(f"call is {call!r}; accepted: a function of no arguments, sync or async")
    asked = _asked(request)
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(call.__call__):  # type: ignore[operator]
        return _aremember(asked, call)

    def calling(form: Form) -> Called:
        with _going_out(counting.sent(asked.place)):
            return _called(call())

    outcome.began(asked)
    try:
        if asked.ask is None:
            served: Any = asked.passed(calling("own"))
        else:
            served = get_cache().serve(asked.serving(asked.ask), calling)
    except BaseException as error:
        outcome.raised(asked, error)
        raise
    answer = asked.answer(served)
    outcome.ended(asked, asked.info(served), served)
    return json.loads(answer.body)


async def _aremember(asked: _Asked, call: Callable[[], Awaitable[Any]]) -> Any:
    async def calling(form: Form) -> Called:
        with _going_out(await counting.asent(asked.place)):
            return _called(await call())

    served: Any
    outcome.began(asked)
    try:
        if asked.ask is None:
            served = asked.passed(await calling("own"))
        else:
            served = await get_cache().aserve(asked.serving(asked.ask), calling)
    except BaseException as error:
        await outcome.araised(asked, error)
        raise
    answer = asked.answer(served)
    await outcome.aended(asked, asked.info(served), served)
    return json.loads(answer.body)


@dataclass(frozen=True, slots=True)
class _Asked:
    """``ask`` is None where the cache is passed by, with ``status`` and ``reason`` saying why.

    ``place``: what it is counted under.
    """

    frame: Frame
    place: Place
    ask: Ask | None = None
    names: frozenset[str] = frozenset()
    status: Status = "miss"
    reason: str = ""
    pin: Pin | None = None
    call: str = field(default_factory=lambda: uuid.uuid4().hex)

    def serving(self, ask: Ask) -> Serving:
        """How it is answered. ``ask`` is its own."""
        return serve(ask) if self.pin is None else once(self.pin, lambda: serve(ask))

    def passed(self, called: Called) -> Served:
        return Served(self.status, self.reason, own=called)

    def answer(self, served: Any) -> Answer:
        answer = served.given.answer if served.own is None else served.own.outcome
        if not isinstance(answer, Answer):  # a call of one's own raises, and what was not stored is not shared
            raise LookupError(f"the call failed: {answer}")
        return answer

    def info(self, served: Any) -> CallInfo:
        return CallInfo.of(served, self.ask.key if self.ask else "", self.names)

    @property
    def span(self) -> None:
        """It has none: the one around it is its caller's."""

    @property
    def is_retry(self) -> bool:
        return False

    def goes_on(self, end: outcome.End) -> bool:
        return False


def _asked(request: Mapping[str, Any]) -> _Asked:
    frame, settings = current(), get_settings()
    tenant = None
    if not settings.enabled:
        read = Reading(frame.named, status="bypass", reason="disabled")
    elif frame.bypass:
        read = Reading(frame.named, status="bypass", reason="asked")
    elif (tenant := current_tenant()) is None:
        read = Reading(frame.named, status="unscoped")
    else:
        read = frame.read(tenant)
    body = {"request": dict(request)}
    question = Question(PATH, "", body, {}, (), frame.locale, read.names, read.versions, frame.vary, frame.variant)
    try:
        print_ = fingerprint(question)  # also of what passes the cache by: an error must not depend on that
    except Unkeyable as error:
        raise ArgumentError(f"request is no JSON: {error}; accepted: a JSON-able mapping") from error
    policy = settings.policy(frame.policy or settings.default_policy)
    model = said if isinstance(said := request.get("model"), str) else ""
    if tenant is None or read.status is not None:
        whose = tenant if tenant is not None or read.status == "unscoped" else counting.whose(current_tenant)
        place = Place(whose, model, policy.name)
        return _Asked(frame, place, None, read.names, read.status or "unscoped", read.reason)
    place = Place(tenant, model, policy.name)
    ask = Ask(
        print_.key,
        print_.lineage,
        tenant_digest(tenant),
        replace(policy, allow_external_state=True),  # what a value depends on is its caller's to say
        refresh=frame.refresh,
        patience=float("inf") if policy.wait is None else policy.wait,
        tags=read.tags,
        sources=read.versions,
        owner=shown(tenant),
        model=model,
        body=body if settings.store_requests else None,
        circumstances=frame.circumstances if settings.store_requests else None,
    )
    if purged_here(ask):
        return _Asked(frame, place, None, read.names, "bypass", "uncommitted:answer")
    name = frame.idempotency_key
    return _Asked(frame, place, ask, read.names, pin=None if name is None else Pin(name, ask, question))


@contextmanager
def _going_out(sent: counting.Sent | None) -> Iterator[None]:
    """Around the call, which is counted: nobody knows what it costs."""
    try:
        yield
    except BaseException:
        counting.failed(sent)
        raise
    counting.answered(sent)
    counting.charged(sent, Price())


def _called(value: Any) -> Called:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise WrongKind(
            "call returned an awaitable: it uses an async client in a sync function; accepted: an `async def` "
            "function, whose remember() is then awaited"
        )
    try:
        body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"call returned {type(value).__name__!r}, which is no JSON ({error})") from error
    return Called(None, Answer(body), WHOLE)
