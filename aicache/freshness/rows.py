"""From a row to the tags that die with a change of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import Any

from django.db.models import Model, QuerySet

from aicache.conf import get_settings
from aicache.core.tags import EVERYBODY, Tag, members
from aicache.errors import ArgumentError
from aicache.freshness import family
from aicache.freshness.columns import keys, stored, text
from aicache.freshness.family import Registered
from aicache.freshness.options import LONGEST_TAG
from aicache.tenants import tenant_digest

logger = logging.getLogger("aicache")

Dying = dict[Tag, str]
"""Tags, each with its tenant's name for people ("": everybody's)."""


def name_of(label: str, model: type[Model], pk: Any) -> str:
    """``label:pk``; of a key too long for a tag, its digest. The same however the key is spelled in memory."""
    parts = keys(model)
    values = pk if len(parts) > 1 else (pk,)
    written = ",".join(str(text(stored(field, value))) for (_, field), value in zip(parts, values, strict=True))
    name = f"{label}:{written}"
    if len(name.encode(errors="replace")) > LONGEST_TAG:
        name = f"{label}:{hashlib.sha256(written.encode(errors='replace')).hexdigest()[:32]}"
    return name


def is_to_insert(instance: Any, model: type[Model]) -> bool:
    """Whether Django would insert it without looking whether the row is there."""
    fields: Any = model._meta.pk_fields
    return instance._state.adding and all(field.has_default() or field.has_db_default() for field in fields)


def tagged(names: Iterable[str], tenant: str | None) -> Dying:
    if tenant is None:
        return {Tag(name, EVERYBODY): "" for name in names}
    digest = tenant_digest(tenant)
    return {Tag(name, digest): tenant for name in names}


def bare(registered: Registered, pk: Any) -> Dying:
    """What dies with a row of which nothing but its key matters."""
    label = registered.label
    extra = registered.options.tags
    fixed = extra if isinstance(extra, frozenset) else frozenset[str]()
    return tagged((name_of(label, registered.model, pk), members(label), *fixed), None)


def dying(registered: Registered, instance: Model) -> Dying:
    """What dies with a change of this row, read as it is in memory.

    Where its tenant cannot be told it dies for everybody. Tags that cannot be told are left out: no answer has them,
    as it could not have been told of it either.
    """
    label, options = registered.label, registered.options
    model = registered.model
    pk = getattr(instance, model._meta.pk.attname)
    names = {name_of(label, model, pk), members(label)}
    try:
        names |= options.tags_of(instance)
    except Exception:
        logger.warning("the tags of %s:%s cannot be told", label, pk, exc_info=True)
    return tagged(names, tenant_of(registered, instance))


def tenant_of(registered: Registered, instance: Model) -> str | None:
    """None: everybody's, also where it cannot be told."""
    if get_settings().single_tenant:
        return None
    try:
        return registered.options.tenant_of(instance)
    except ArgumentError as error:
        logger.warning("invalidated for everybody: %s", error)
    except Exception:
        logger.warning("invalidated for everybody: %s does not tell its tenant", registered.label, exc_info=True)
    return None


def plain(model: type[Model], using: str) -> QuerySet[Model]:
    """All rows: a manager, even the base one, may hide some."""
    return QuerySet(model=model, using=using)


def touched(instance: Model, using: str) -> Dying:
    """What dies with a change of this row as itself, as its ancestors and as what inherits from it. May query."""
    concrete: Any = instance._meta.concrete_model
    found: Dying = {}
    kin = family.kin(concrete)
    own = kin.own or family.find(concrete)
    for registered in [own, *family.above(concrete)]:
        if registered is not None:
            found |= dying(registered, instance)
    for registered in kin.below:
        for heir in plain(registered.model, using).filter(**{concrete._meta.pk.name: instance.pk}):
            found |= dying(registered, heir)
    return found


def touched_by_key(model: type[Model], field: str, values: Iterable[Any], using: str) -> Dying:
    """As ``touched``, of the rows that have these values in a field; without a query where keys are enough."""
    values = list(values)
    concrete: Any = model._meta.concrete_model
    kin = family.kin(concrete)
    if not kin and not family.above(concrete):
        return {}
    found: Dying = {}
    if (
        kin.own is not None
        and not kin.below
        and not kin.own.options.needs_row
        and not family.above(concrete)
        and field in ("pk", concrete._meta.pk.name, concrete._meta.pk.attname)
    ):
        for value in values:
            found |= bare(kin.own, value)
        return found
    for instance in plain(concrete, using).filter(**{f"{field}__in": values}):
        found |= touched(instance, using)
    return found
