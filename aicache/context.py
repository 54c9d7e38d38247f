"""For whom, about what, how long: the context in which calls are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction
from django.db import DatabaseError, InterfaceError

from aicache.calls import Calls
from aicache.conf import get_settings
from aicache.core.operations import Unavailable
from aicache.core.records import CallInfo, Status
from aicache.core.tags import Tag, hanging, members
from aicache.errors import ArgumentError, TenantMismatch, WrongKind
from aicache.freshness.family import spelled
from aicache.freshness.loads import Loads
from aicache.freshness.options import MOST_TAGS, listed, names
from aicache.freshness.outbox import uncommitted
from aicache.freshness.registry import is_label, source_of
from aicache.freshness.source import Source, Sources
from aicache.tenants import ONLY, Tenant, encodable, normalised, tenant_digest

P = ParamSpec("P")
R = TypeVar("R")

A_LIST: Final = "accepted: a list, such as {}=['one', 'another']"

TROUBLE: Final = (Unavailable, DatabaseError, InterfaceError)
"""What keeps a source from being read: the cache is passed by, and the caller has no error of it."""


NO_SOURCES: Final = Sources(())
NO_VERSIONS: Final[tuple[tuple[str, str], ...]] = ()


class Reading(NamedTuple):
    """What a call is made from, as it is then. ``status``: where it therefore passes the cache by."""

    names: frozenset[str]
    versions: tuple[tuple[str, str], ...] = NO_VERSIONS
    tags: tuple[Tag, ...] = ()
    status: Status | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the open scopes add up to. ``calls`` are the collectors of all of them.

    ``told``: the tags that the sources gave as the scope was opened.
    ``nobody``: the site's callable has been asked, and said that there is no tenant.
    """

    tenant: Tenant | None = None
    locale: str = ""
    tags: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    sources: Sources = NO_SOURCES
    policy: str | None = None
    vary: tuple[str, ...] = ()
    bypass: bool = False
    refresh: bool = False
    variant: int = 0
    nobody: bool = False
    calls: tuple[Calls, ...] = ()
    around: Frame | None = field(default=None, repr=False)
    opened_by: scope | None = field(default=None, repr=False)

    @property
    def named(self) -> frozenset[str]:
        """The tags of a call that passes the cache by: those that were given, and those of its sources."""
        return self.tags | self.told

    def read(self, tenant: Tenant) -> Reading:
        """Raises TenantMismatch where a source is another tenant's, and ArgumentError where it says odd things."""
        names, versions = self.tags, NO_VERSIONS
        if self.sources:
            if (unsaved := self.sources.unsaved()) is not None:
                return Reading(self.named, status="bypass", reason=f"unsaved:{unsaved}")
            loads = Loads()
            try:
                self.sources.refuse_others(tenant, loads)
                names, versions = names | self.sources.names(), self.sources.versions(loads)
            except TROUBLE:
                return Reading(self.named, status="degraded", reason="database")
        every_row = {members(name) for name in self.tags if is_label(name)}
        tags = hanging(names | every_row, tenant_digest(tenant))
        if tags and (dying := uncommitted(tags)) is not None:
            return Reading(names, versions, tags, status="bypass", reason=f"uncommitted:{dying.shown}")
        return Reading(names, versions, tags)

    def opened(self) -> Frame:
        """With what the sources say now. Raises ArgumentError, also where that is too much, and TenantMismatch.

        What cannot be read now is looked at when a call is made.
        """
        frame = self
        if self.sources and self.sources.unsaved() is None:
            try:
                frame = replace(self, told=self.sources.names())
                if self.tenant is not None:
                    self.sources.refuse_others(self.tenant, Loads())
            except TROUBLE:
                pass
        if len(frame.named) > MOST_TAGS:
            raise ArgumentError(
                f"tags add up to {len(frame.named)}; accepted: at most {MOST_TAGS} a call, those of sources included"
            )
        return frame

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
        return ONLY
    frame = current()
    if frame.tenant is not None:
        return frame.tenant
    source = settings.tenant
    if frame.nobody or source is None or source.needs_request or source.is_async:
        return None
    return normalised(source.ask(), TENANT_SETTING)


TENANT_SETTING: Final = 'the result of AICACHE["TENANT"]'


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

    def _keep(self, name: str, value: Any, kind: type, accepted: str) -> None:
        if value is None:
            return
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ArgumentError(f"{name} is {value!r}; accepted: {accepted}")
        self._set[name] = encodable(name, value) if isinstance(value, str) else value

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


def _sources(given: Iterable[Any]) -> list[Source]:
    accepted = "accepted: a list of saved instances of registered models"
    return [source_of(instance) for instance in listed(given, "sources", accepted)]


def _vary(given: Iterable[str | int]) -> tuple[str, ...]:
    items = list(listed(given, "vary", A_LIST.format("vary")))
    for item in items:
        if not isinstance(item, str | int) or isinstance(item, bool):
            raise ArgumentError(f"vary contains {item!r} ({type(item).__name__}); accepted: str or int")
    return tuple(encodable("vary", str(item)) for item in items)
