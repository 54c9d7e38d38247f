"""Deletions, of rows that Django collects: it sends the signals in the transaction of the deletion.

First all of ``pre_delete``, then what the deletion does to other rows, then each ``post_delete``.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connections
from django.db.models import CASCADE, DO_NOTHING, PROTECT, RESTRICT, Model, signals

from aicache.freshness import family, outbox, transactions
from aicache.freshness.family import Registered
from aicache.freshness.rows import Dying, bare, dying, plain, tagged

HELD: Final = "_aicache_held"  # on what is being deleted: by which deletion, and what is yet to be written of its rows

UID: Final = "aicache.freshness"
UID_OF_TARGETS: Final = "aicache.freshness.targets"


def hear(model: type[Model]) -> None:
    """Of this very class only: a receiver for all would cost unrelated models their fast deletes."""
    signals.pre_delete.connect(on_pre_delete, sender=model, dispatch_uid=UID)
    signals.post_delete.connect(on_post_delete, sender=model, dispatch_uid=UID)


def hear_targets() -> None:
    """Of what registered rows refer to and outlive: ``SET_NULL`` and its like change them, and no signal tells.

    Those are never deleted fast, so that nothing is lost.
    """
    for registered in family.everyone():
        for field in _set_by_deletion(registered):
            target: Any = field.related_model
            if not isinstance(target, type):  # not loaded yet
                continue
            for model in [target, *family.descendants(target)]:
                if family.label_of(model) == family.label_of(target):
                    signals.pre_delete.connect(on_target, sender=model, dispatch_uid=UID_OF_TARGETS)
                    signals.post_delete.connect(on_post_delete, sender=model, dispatch_uid=UID)


def on_pre_delete(sender: Any, instance: Any, using: str, origin: Any = None, **_: Any) -> None:
    registered = family.find(sender)
    if registered is None or instance.pk is None:
        return
    if not registered.options.needs_row:
        found = bare(registered, instance.pk)
    elif isinstance(origin, Model) and isinstance(origin, registered.model):
        # Not loaded for this: it may have been changed in memory, or by others since.
        transactions.lock(registered.model, using)
        rows = plain(registered.model, using).filter(pk=instance.pk)
        found = {tag: tenant for row in [*rows, instance] for tag, tenant in dying(registered, row).items()}
    else:
        found = dying(registered, instance)
    _keep(found, using, origin, sender)


def on_target(sender: Any, instance: Any, using: str, origin: Any = None, **_: Any) -> None:
    found: Dying = {}
    locked = _held(origin, using) is not None
    for registered in family.everyone():
        for field in _set_by_deletion(registered):
            if not isinstance(field.related_model, type) or not issubclass(sender, field.related_model):
                continue
            if not locked:
                transactions.lock(sender._meta.concrete_model, using)
                locked = True
            referring: Dying = {}
            for row in plain(registered.model, using).filter(**{field.name: instance}):
                referring |= dying(registered, row)
            if _may_move(registered, field):  # to whom cannot be told
                referring |= tagged({tag.name for tag in referring}, None)
            found |= referring
    _keep(found, using, origin, sender)


def _may_move(registered: Registered, field: Any) -> bool:
    """Whether a row is another tenant's once this field is set to something else."""
    tenant = registered.options.tenant
    return callable(tenant) or (tenant is not None and tenant[0] in (field.name, field.attname))


def on_post_delete(sender: Any, instance: Any, using: str, origin: Any = None, **_: Any) -> None:
    found = _held(origin, using)
    if found is not None:
        del vars(origin)[HELD]
        outbox.write(found, using=using, cause=f"delete {family.label_of(sender)}")


def _keep(found: Dying, using: str, origin: Any, sender: Any) -> None:
    """The first of many rows is written at once, as a transaction begins with a write; the others together."""
    if not found:
        return
    held = _held(origin, using)
    if held is not None:
        held.update(found)
        return
    outbox.write(found, using=using, cause=f"delete {family.label_of(sender)}")
    if origin is not None and (deletion := _deletion(using)) is not None:
        vars(origin)[HELD] = deletion, {}


def _held(origin: Any, using: str) -> Dying | None:
    """What is kept for the end of the deletion that is under way; None: nothing was written in it yet.

    What a deletion that failed has left on its origin is not this one's.
    """
    deletion, found = (None, None) if origin is None else vars(origin).get(HELD, (None, None))
    return found if deletion is not None and deletion is _deletion(using) else None


def _deletion(using: str) -> Any:
    """Django carries each out in an ``atomic`` of its own, in which it sends the signals."""
    blocks: Any = connections[using].atomic_blocks
    return blocks[-1] if blocks else None


def _set_by_deletion(registered: Registered) -> list[Any]:
    """The fields that a deletion elsewhere sets to something else, other than in the database itself."""
    fields: list[Any] = [field for field in registered.model._meta.concrete_fields if field.is_relation]
    return [field for field in fields if _sets(field.remote_field.on_delete)]


def _sets(on_delete: Any) -> bool:
    return on_delete not in (CASCADE, PROTECT, RESTRICT, DO_NOTHING) and not hasattr(on_delete, "on_delete_sql")
