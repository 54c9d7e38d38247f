"""For whom, about what, how long: the context in which calls are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction

from aicache.calls import Calls
from aicache.conf import get_settings
from aicache.errors import ArgumentError, TenantMismatch, WrongKind
from aicache.frame import OUTSIDE, Frame, current, enter
from aicache.freshness.family import spelled
from aicache.freshness.options import listed, names
from aicache.freshness.registry import source_of
from aicache.freshness.source import Source
from aicache.tenants import encodable, normalised

P = ParamSpec("P")
R = TypeVar("R")

A_LIST: Final = "accepted: a list, such as {}=['one', 'another']"


class scope:  # noqa: N801 - used like a function, in the manner of contextlib
    """Opens a scope, as ``with scope(...) as calls`` (also around ``await``) or as a decorator.

    It is read at the moment of each call. Inner scopes inherit what they do not set; ``sources``, ``tags`` and ``vary``
    add up. ``tenant``: str, int, UUID or GLOBAL. ``sources``: instances of registered models that the answers are made
    from; each is read again at each call. ``bypass``: nothing is read, shared or kept. ``refresh``: an entry that
    stands is not read, and is replaced. ``variant``: another number is another answer to the same question.

    Raises TenantMismatch where another tenant's scope is open, ArgumentError for what cannot be used.
    """

    def __init__(
        self,
        *,
        tenant: Any = None,
        locale: str | None = None,
        sources: Iterable[Any] = (),
        tags: Iterable[str] = (),
        policy: str | None = None,
        vary: Iterable[str | int] = (),
        bypass: bool | None = None,
        refresh: bool | None = None,
        variant: int | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        self._tenant = normalised(tenant, "tenant")
        if self._tenant is None and tenant is not None:
            raise ArgumentError(f"tenant is {tenant!r}; accepted: a name, or None to leave it as it is")
        self._sources = _sources(sources)
        self._tags = names(tags, "tags", A_LIST.format("tags"))
        self._vary = _vary(vary)
        self._set: dict[str, Any] = {}
        self._keep("locale", locale, str, "a language code such as 'en-gb'")
        self._keep("policy", policy, str, "the name of a policy")
        self._keep("bypass", bypass, bool, "True or False")
        self._keep("refresh", refresh, bool, "True or False")
        self._keep("variant", variant, int, "a number")
        # Not inherited: the calls of an inner scope are others than the one that this names.
        self._set["idempotency_key"] = None if idempotency_key is None else named_once(idempotency_key)

    def _keep(self, name: str, value: Any, kind: type, accepted: str) -> None:
        if value is None:
            return
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ArgumentError(f"{name} is {value!r}; accepted: {accepted}")
        self._set[name] = encodable(name, value) if isinstance(value, str) else value

    def __enter__(self) -> Calls:
        calls = Calls()
        enter(self._frame_inside(current(), calls))
        return calls

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Its own frame, not just the innermost: a generator that is not finished may have left a scope open inside. And
        # where this scope is not open, in another thread or task or after the one around it, nothing is left.
        frame: Frame | None = current()
        while frame is not None and frame.opened_by is not self:
            frame = frame.around
        if frame is not None:
            enter(frame.around or OUTSIDE)

    def _frame_inside(self, around: Frame, calls: Calls) -> Frame:
        settings = get_settings()
        if "policy" in self._set:
            try:
                settings.policy(self._set["policy"])
            except ValueError as error:
                raise ArgumentError(f"policy: {error}") from None
        if self._tenant is not None:
            if settings.single_tenant:
                raise TenantMismatch(f"tenant is {self._tenant!r}, but AICACHE says SINGLE_TENANT: name no tenant")
            if around.tenant is not None and around.tenant != self._tenant:
                raise TenantMismatch(f"tenant is {self._tenant!r} inside a scope of {around.tenant!r}")
        return replace(
            around,
            tenant=around.tenant if self._tenant is None else self._tenant,
            # Spelled again, as a decorator may be older than the model that a tag is the label of.
            tags=around.tags.union(map(spelled, self._tags)),
            sources=around.sources.also(self._sources),
            vary=around.vary + self._vary,
            calls=(*around.calls, calls),
            around=around,
            opened_by=self,
            **self._set,
        ).opened()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function, sync or async. Each call opens a scope of its own."""
        name = getattr(function, "__qualname__", repr(function))
        if inspect.isclass(function) or not callable(function):
            raise WrongKind(
                f"scope cannot decorate {name}; accepted: a function, sync or async (of a classmethod or property, the "
                "function inside)"
            )
        if _is(function, inspect.isgeneratorfunction) or _is(function, inspect.isasyncgenfunction):
            raise WrongKind(
                f"scope cannot decorate the generator function {name!r}: its body runs while its consumer's code does, "
                "which would run in the scope too; open the scope inside it, around each call"
            )
        if _is(function, iscoroutinefunction):

            @functools.wraps(function)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    coroutine: Any = function(*args, **kwargs)
                    return await coroutine

            return awaiting  # type: ignore[return-value]  # R is the coroutine's type

        @functools.wraps(function)
        def calling(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                result = function(*args, **kwargs)
            # An async function inside another decorator: its body has yet to run.
            return self._awaiting(result) if inspect.iscoroutine(result) else result  # type: ignore[return-value]

        return calling

    async def _awaiting(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with closing(coroutine), self:
            return await coroutine


LONGEST_KEY: Final = 255


def named_once(key: Any, name: str = "idempotency_key") -> str:
    """An idempotency key. Raises ArgumentError."""
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY:
        shown = key if not isinstance(key, str) or len(key) <= 60 else f"{key[:60]}…"
        raise ArgumentError(f"{name} is {shown!r}; accepted: a text of 1 to {LONGEST_KEY} characters")
    return encodable(name, key)


def _is(function: Any, kind: Callable[[Any], bool]) -> bool:
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - of an object, what calling it runs


def _sources(given: Iterable[Any]) -> list[Source]:
    accepted = "accepted: a list of saved instances of registered models"
    return [source_of(instance) for instance in listed(given, "sources", accepted)]


def _vary(given: Iterable[str | int]) -> tuple[str, ...]:
    items = list(listed(given, "vary", A_LIST.format("vary")))
    for item in items:
        if not isinstance(item, str | int) or isinstance(item, bool):
            raise ArgumentError(f"vary contains {item!r} ({type(item).__name__}); accepted: str or int")
    return tuple(encodable("vary", str(item)) for item in items)
