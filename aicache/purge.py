"""What the shells purge: names of tags, whose they are, and how many answers hang on them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from django.db import connections, transaction
from django.utils import timezone

from aicache.cache import get_cache
from aicache.conf import Settings, get_settings
from aicache.core.operations import Unavailable
from aicache.core.tags import Tag, members
from aicache.database import of_test
from aicache.errors import ArgumentError
from aicache.frame import current_tenant
from aicache.freshness import outbox
from aicache.freshness.databases import aliases
from aicache.freshness.options import one_name
from aicache.models import Invalidation, InvalidationTag
from aicache.tenants import GLOBAL, Everybody, Tenant, normalised, tenant_digest

GLOB: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Purge:
    """Tags that are to die: one tenant's, or everybody's. ``tenant`` None: it is not known by its name."""

    tags: tuple[Tag, ...]
    tenant: Tenant | None

    @classmethod
    def of(cls, names: Iterable[Any], tenant: Tenant) -> Purge:
        """Raises ArgumentError for a name that cannot be a tag's."""
        owner = tenant_digest(tenant)
        return cls(tuple(Tag(name, owner) for name in dict.fromkeys(one_name(name, "tags") for name in names)), tenant)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tag.name for tag in self.tags)


class Outcome(Enum):
    IN_FORCE = "in force"
    PENDING = "pending"  # committed; Redis is out of reach, and the next drain applies it
    UNCOMMITTED = "uncommitted"  # a transaction is open around it, and decides


def carry_out(purges: Iterable[Purge], also: Callable[[], Any] = lambda: None, *, cause: str = "purge") -> Outcome:
    """Durably, all or none. ``also`` is done in the same transaction. ``cause``: who or what purges, for people."""
    settings = get_settings()
    began = timezone.now()
    digests = []
    with transaction.atomic(using=settings.database):
        for purge in purges:
            _write(purge, settings, cause)
            digests += [tag.digest for tag in purge.tags]
        also()
    connection = connections[settings.database]
    by_hand = not (connection.in_atomic_block or connection.get_autocommit())
    if by_hand or not all(map(of_test, connection.atomic_blocks)):
        return Outcome.UNCOMMITTED
    written = Invalidation.objects.using(settings.database).filter(digest__in=digests, made_at__gte=began)
    if not written.filter(applied_at=None).exists():
        return Outcome.IN_FORCE
    return Outcome.UNCOMMITTED if connection.in_atomic_block else Outcome.PENDING


def carry_out_and_count(purge: Purge, *, cause: str) -> tuple[Outcome, list[int | None]]:
    """→ what became of it, and as ``sizes`` how many answers hung on each tag.

    Counting comes last: it takes time, in which none of the answers may be served.
    """
    try:
        stood = get_cache().store.standing(purge.tags)
    except Unavailable:
        stood = None
    outcome = carry_out([purge], cause=cause)
    return outcome, [None] * len(purge.tags) if stood is None else sizes(purge.tags, stood)


def sizes(tags: Sequence[Tag], stood: Any = None) -> list[int | None]:
    """How many answers hang on each tag, or did as they ``stood``; about, where they are many. None: Redis is away."""
    try:
        return list(get_cache().store.counts(tags, stood))
    except Unavailable:
        return [None] * len(tags)


def _write(purge: Purge, settings: Settings, cause: str) -> None:
    """With its owner's name, by which a drain finds what it may have to delete."""
    named = purge.tenant if isinstance(purge.tenant, str) else ""
    outbox.write(dict.fromkeys(purge.tags, named), using=settings.database, cause=cause)


def whose(tenant: Any = None, *, all_tenants: bool = False) -> Tenant:
    """Raises ArgumentError where nobody says, where two do, and where a site of one tenant is given a name."""
    if not isinstance(all_tenants, bool):  # JSON's "false" would be everybody's end
        raise ArgumentError(f"all_tenants is {all_tenants!r}; accepted: True or False")
    named = normalised(tenant, "tenant")
    if tenant is not None and named is None:
        raise ArgumentError(f"tenant is {tenant!r}; accepted: a name, or all_tenants (--all-tenants)")
    if named is not None and all_tenants:
        raise ArgumentError(f"tenant is {tenant!r} and all_tenants (--all-tenants) is given too; accepted: one of them")
    if all_tenants:
        return GLOBAL
    if isinstance(named, str) and get_settings().single_tenant:
        raise ArgumentError(f"tenant is {tenant!r}, but AICACHE says SINGLE_TENANT: name no tenant")
    found = named or current_tenant()
    if found is None:
        raise ArgumentError(
            "nobody says whose answers are meant; accepted: tenant (--tenant T), or all_tenants (--all-tenants)"
        )
    return found


def matching(pattern: str, tenant: Tenant) -> tuple[list[str], bool]:
    """The names in use that a glob matches, sorted; and whether Redis could be asked for those that it knows."""
    owner = tenant_digest(tenant)
    everybody = isinstance(tenant, Everybody)
    names: set[str] = set()
    asked = True
    try:
        names |= {tag.name for tag, _ in get_cache().store.names() if everybody or tag.tenant == owner}
    except Unavailable:
        asked = False
    beginning = GLOB.split(pattern, maxsplit=1)[0]
    for name, digest in _remembered(beginning):
        if everybody or Tag(name, owner).digest == digest:
            names.add(name)
    names -= {members(name) for name in names}  # those die with the label itself
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern)), asked


def _remembered(beginning: str) -> Iterator[tuple[str, str]]:
    for alias in aliases():
        for model in (InvalidationTag, Invalidation):
            rows = model._default_manager.using(alias).filter(tag__startswith=beginning)
            yield from rows.values_list("tag", "digest").distinct().order_by().iterator()
