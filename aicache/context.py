"""For whom, about what, how long: the context in which calls are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import Enum
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import iscoroutinefunction

from aicache.calls import Calls
from aicache.conf import get_settings
from aicache.core.records import CallInfo
from aicache.errors import ArgumentError, TenantMismatch, WrongKind
from aicache.store.keys import digest

P = ParamSpec("P")
R = TypeVar("R")

MOST_TAGS: Final = 64
LONGEST_TAG: Final = 200  # bytes of UTF-8


class Everybody(Enum):
    GLOBAL = "everybody"

    def __repr__(self) -> str:
        return "aicache.GLOBAL"


GLOBAL: Final = Everybody.GLOBAL
"""The tenant whose answers are everybody's."""

Tenant = str | Everybody


@dataclass(frozen=True, slots=True)
class Frame:
    """What the open scopes add up to. ``calls`` are the collectors of all of them.

    ``nobody``: the site's callable has been asked, and said that there is no tenant.
    """

    tenant: Tenant | None = None
    locale: str = ""
    tags: frozenset[str] = frozenset()
    policy: str | None = None
    vary: tuple[str, ...] = ()
    bypass: bool = False
    refresh: bool = False
    variant: int = 0
    nobody: bool = False
    calls: tuple[Calls, ...] = ()
    around: Frame | None = field(default=None, repr=False)
    opened_by: scope | None = field(default=None, repr=False)

    def record(self, call: str, info: CallInfo) -> None:
        for calls in self.calls:
            calls.record(call, info)


OUTSIDE: Final = Frame()
_frame: ContextVar[Frame] = ContextVar("aicache.scope", default=OUTSIDE)


def current() -> Frame:
    """The innermost open scope of this thread or task."""
    return _frame.get()


def current_tenant() -> Tenant | None:
    """Whose a call made now would be; None: nobody said."""
    settings = get_settings()
    if settings.single_tenant:
        return "the only one"
    frame = current()
    if frame.tenant is not None:
        return frame.tenant
    source = settings.tenant
    if frame.nobody or source is None or source.needs_request or source.is_async:
        return None
    return normalised(source.ask(), TENANT_SETTING)


TENANT_SETTING: Final = 'the result of AICACHE["TENANT"]'


def tenant_digest(tenant: Tenant) -> str:
    return digest("everybody", "") if isinstance(tenant, Everybody) else digest("tenant", tenant)


def normalised(value: Any, name: str) -> Tenant | None:
    """A tenant as str; None and "" are nobody. Raises ArgumentError."""
    if isinstance(value, Everybody):
        return value
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        if inspect.iscoroutine(value):
            value.close()
        raise ArgumentError(
            f"{name} is {value!r} ({type(value).__name__}); accepted: str, int, UUID or aicache.GLOBAL, "
            "such as the tenant's primary key"
        )
    return _encodable(name, str(value))


class scope:  # noqa: N801 - used like a function, in the manner of contextlib
    """Opens a scope, as ``with scope(...) as calls`` (also around ``await``) or as a decorator.

    It is read at the moment of each call. Inner scopes inherit what they do not set; ``tags`` and ``vary`` add up.
    ``tenant``: str, int, UUID or GLOBAL. ``bypass``: nothing is read, shared or kept. ``refresh``: an entry that stands
    is not read, and is replaced. ``variant``: another number is another answer to the same question.

    Raises TenantMismatch where another tenant's scope is open, ArgumentError for what cannot be used.
    """

    def __init__(
        self,
        *,
        tenant: Any = None,
        locale: str | None = None,
        tags: Iterable[str] = (),
        policy: str | None = None,
        vary: Iterable[str | int] = (),
        bypass: bool | None = None,
        refresh: bool | None = None,
        variant: int | None = None,
    ) -> None:
        self._tenant = normalised(tenant, "tenant")
        if self._tenant is None and tenant is not None:
            raise ArgumentError(f"tenant is {tenant!r}; accepted: a name, or None to leave it as it is")
        self._tags = _tags(tags)
        self._vary = tuple(_encodable("vary", str(item)) for item in _items("vary", vary, str | int))
        self._set: dict[str, Any] = {}
        self._keep("locale", locale, str, "a language code such as 'en-gb'")
        self._keep("policy", policy, str, "the name of a policy")
        self._keep("bypass", bypass, bool, "True or False")
        self._keep("refresh", refresh, bool, "True or False")
        self._keep("variant", variant, int, "a number")

    def _keep(self, name: str, value: Any, kind: type, accepted: str) -> None:
        if value is None:
            return
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ArgumentError(f"{name} is {value!r}; accepted: {accepted}")
        self._set[name] = _encodable(name, value) if isinstance(value, str) else value

    def __enter__(self) -> Calls:
        calls = Calls()
        _frame.set(self._frame_inside(current(), calls))
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
            _frame.set(frame.around or OUTSIDE)

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
        tags = around.tags | self._tags
        if len(tags) > MOST_TAGS:
            raise ArgumentError(f"tags add up to {len(tags)}; accepted: at most {MOST_TAGS} a call")
        return replace(
            around,
            tenant=around.tenant if self._tenant is None else self._tenant,
            tags=tags,
            vary=around.vary + self._vary,
            calls=(*around.calls, calls),
            around=around,
            opened_by=self,
            **self._set,
        )

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


def _is(function: Any, kind: Callable[[Any], bool]) -> bool:
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - of an object, what calling it runs


@contextmanager
def resumed(frame: Frame) -> Iterator[None]:
    """Steps back into a scope that was left, such as for the next chunk of a streaming response."""
    outside = current()
    _frame.set(frame)
    try:
        yield
    finally:
        _frame.set(outside)


def _tags(given: Iterable[str]) -> frozenset[str]:
    tags = frozenset(_items("tags", given, str))
    for tag in tags:
        size = len(_encodable("tags", tag).encode())
        if not 1 <= size <= LONGEST_TAG:
            shown = tag if len(tag) <= 60 else f"{tag[:60]}…"
            raise ArgumentError(f"tags contains {shown!r} of {size} bytes; accepted: 1 to {LONGEST_TAG} bytes")
    if len(tags) > MOST_TAGS:
        raise ArgumentError(f"tags has {len(tags)} tags; accepted: at most {MOST_TAGS} a call")
    return tags


def _items(name: str, given: Any, kind: Any) -> list[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ArgumentError(f"{name} is {given!r}; accepted: a list, such as {name}=['one', 'another']")
    items = list(given)
    for item in items:
        if not isinstance(item, kind) or isinstance(item, bool):
            raise ArgumentError(
                f"{name} contains {item!r} ({type(item).__name__}); accepted: str{' or int' if kind is not str else ''}"
            )
    return items


def _encodable(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{name} is or contains {text!r}; accepted: text without lone surrogates") from None
    return text
