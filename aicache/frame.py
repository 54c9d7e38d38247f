"""What the open scopes add up to: whose a call made now is, about what, and how it may be answered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple

from django.db import DatabaseError, InterfaceError

from aicache.calls import Calls
from aicache.conf import get_settings
from aicache.core.callinfo import CallInfo
from aicache.core.operations import Unavailable
from aicache.core.records import Ask, Status
from aicache.core.tags import Tag, hanging, members
from aicache.errors import ArgumentError
from aicache.freshness.loads import Loads
from aicache.freshness.options import MOST_TAGS
from aicache.freshness.outbox import uncommitted
from aicache.freshness.registry import is_label
from aicache.freshness.source import Sources
from aicache.signals import tell_inside
from aicache.tenants import ONLY, Tenant, normalised, tenant_digest

TENANT_SETTING: Final = 'the result of AICACHE["TENANT"]'

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
    idempotency_key: str | None = None
    nobody: bool = False
    calls: tuple[Calls, ...] = ()
    around: Frame | None = field(default=None, repr=False)
    opened_by: Any = field(default=None, repr=False)

    @property
    def named(self) -> frozenset[str]:
        """The tags of a call that passes the cache by: those that were given, and those of its sources."""
        return self.tags | self.told

    @property
    def circumstances(self) -> dict[str, Any]:
        """By which, and by the sources, the scope can be opened again."""
        return {"locale": self.locale, "tags": sorted(self.tags), "vary": list(self.vary), "variant": self.variant}

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

    def waited(self, call: str) -> float:
        """Seconds that a call has waited in its earlier attempts; infinite, where nobody knows."""
        known = (calls.earlier(call) for calls in self.calls)
        return next((earlier.waited for earlier in known if earlier is not None), math.inf)


def purged_here(ask: Ask) -> bool:
    """Whether this very answer has been purged in a transaction that is still open: none that stands may be read."""
    return uncommitted(ask.counted[-1:]) is not None


OUTSIDE: Final = Frame()
_frame: ContextVar[Frame] = ContextVar("aicache.scope", default=OUTSIDE)


def current() -> Frame:
    """The innermost open scope of this thread or task."""
    return _frame.get()


def enter(frame: Frame) -> None:
    """Makes it the innermost one."""
    _frame.set(frame)


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


@contextmanager
def resumed(frame: Frame) -> Iterator[None]:
    """Steps back into a scope that was left, such as for the next chunk of a streaming response."""
    outside = current()
    enter(frame)
    try:
        yield
    finally:
        enter(outside)


# A receiver is no part of what it is told of: its own calls are not in those scopes.
tell_inside(partial(resumed, OUTSIDE))
