"""``invalidate``: for changes that no signal tells of."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from django.db import connections, router
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

from aicache.conf import get_settings
from aicache.core.tags import members
from aicache.errors import ArgumentError, TenantMismatch
from aicache.frame import current_tenant
from aicache.freshness import family, outbox, rows, transactions
from aicache.freshness.family import Registered
from aicache.freshness.options import one_name
from aicache.freshness.rows import Dying
from aicache.tenants import Everybody, Tenant, normalised

MOST_ROWS: Final = 1000
ACCEPTED: Final = "accepted: saved instances and querysets of registered models, and tags"


def invalidate(*targets: Any, tenant: Any = None, using: str | None = None) -> None:
    """Ends the answers that hang on these rows, querysets or tags: with the open transaction, or at once.

    A queryset is evaluated now, so after an ``update()`` it must still find its rows. Of more than 1,000 rows the whole
    model's answers end, for the tenants of the rows. A tag needs a tenant: this one, that of the scope, or GLOBAL for
    everybody's. ``tenant`` with rows: theirs *and* this one. ``using``: the database that keeps it.

    Raises ArgumentError, and what the database does.
    """
    whose = normalised(tenant, "tenant")
    if whose is None and tenant is not None:
        raise ArgumentError(f"tenant is {tenant!r}; accepted: a name, or aicache.GLOBAL")
    if whose is not None and not isinstance(whose, Everybody) and get_settings().single_tenant:
        raise TenantMismatch(f"tenant is {whose!r}, but AICACHE says SINGLE_TENANT: name no tenant")
    if using is not None and using not in connections:
        raise ArgumentError(f"using is {using!r}; accepted: one of {', '.join(connections)}")
    found: defaultdict[str, Dying] = defaultdict(dict)
    tags: list[str] = []
    for target in targets:
        if isinstance(target, str):
            tags.append(one_name(target, "targets"))
        elif isinstance(target, Model):
            alias = using or router.db_for_write(type(target), instance=target)
            found[alias] |= _also(_of_instance(target, alias), whose)
        elif isinstance(target, QuerySet):
            alias = using or _database_of(target)
            found[alias] |= _also(_of_queryset(target, alias), whose)
        else:
            raise ArgumentError(f"targets contains {target!r} ({type(target).__name__}); {ACCEPTED}")
    if tags:
        found[using or _open_database()] |= _of_tags(tags, whose)
    for alias, dying in found.items():
        with transactions.ensured(alias):
            outbox.write(dying, using=alias, cause="invalidate")


def _database_of(queryset: Any) -> str:
    """Where its rows are written, not the replica that they would be read from."""
    alias: str = queryset._db or router.db_for_write(queryset.model, **queryset._hints)
    return alias


def _of_tags(tags: list[str], tenant: Tenant | None) -> Dying:
    tenant = current_tenant() if tenant is None else tenant
    if tenant is None:
        raise ArgumentError(
            f"tenant is needed for {tags[0]!r}; accepted: tenant=…, a scope's, or tenant=aicache.GLOBAL for everybody's"
        )
    return rows.tagged(tags, None if isinstance(tenant, Everybody) else tenant)


def _also(dying: Dying, tenant: Tenant | None) -> Dying:
    if tenant is None:
        return dying
    names = {tag.name for tag in dying}
    return dying | rows.tagged(names, None if isinstance(tenant, Everybody) else tenant)


def _of_instance(instance: Model, using: str) -> Dying:
    _registered(type(instance))
    if not instance._is_pk_set():  # type: ignore[attr-defined]  # Django's own
        raise ArgumentError(f"targets contains an unsaved {instance._meta.label}; {ACCEPTED}")
    return rows.touched(instance, using)


def _of_queryset(queryset: QuerySet[Any], using: str) -> Dying:
    registered = _registered(queryset.model)
    if not issubclass(queryset._iterable_class, ModelIterable):
        raise ArgumentError(f"targets contains rows of {queryset.model.__name__} as values(); {ACCEPTED}")
    queryset = queryset.using(using)
    found: Dying = {}
    for number, instance in enumerate(queryset.iterator(chunk_size=MOST_ROWS), 1):
        found |= rows.touched(instance, using)
        if number > MOST_ROWS:
            found = _whole(registered, found)
            if (tenants := _tenants(registered, queryset)) is not None:
                for tenant in tenants:
                    found |= _whole(registered, rows.tagged({tag.name for tag in found}, tenant))
                break
    return found


def _tenants(registered: Registered, queryset: QuerySet[Any]) -> list[str | None] | None:
    """Of all the rows, by one query; None where each row must be asked."""
    chosen, kin = registered.options.tenant, family.kin(registered.model)
    alone = not kin.below and not family.above(registered.model) and not callable(registered.options.tags)
    if not alone or callable(chosen) or queryset.query.is_sliced or queryset.query.combinator:
        return None
    if chosen is None or get_settings().single_tenant:
        return [None]
    found = queryset.order_by().values_list("__".join(chosen), flat=True).distinct()
    whose = (normalised(value, "tenant") for value in found)
    return [None if isinstance(tenant, Everybody) else tenant for tenant in whose]


def _whole(registered: Registered, dying: Dying) -> Dying:
    """The names of single rows, each replaced by the model's."""
    label = registered.label
    kept: Dying = {}
    for tag, tenant in dying.items():
        if tag.name.startswith(f"{label}:") and tag.name != members(label):
            kept |= rows.tagged((label, members(label)), tenant or None)
        else:
            kept[tag] = tenant
    return kept


def _registered(model: type[Model]) -> Registered:
    registered = family.find(model)
    if registered is None:
        raise ArgumentError(f"targets contains {model._meta.label} rows, which is not registered; {ACCEPTED}")
    return registered


def _open_database() -> str:
    """That of the transaction that this belongs to, if one is open."""
    database = get_settings().database
    known = list(connections)
    candidates = (alias for alias in ("default", *known) if alias in known)
    return next((alias for alias in candidates if connections[alias].in_atomic_block), database)
