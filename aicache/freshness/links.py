"""Many-to-many relations: who is added to or taken from a row changes it, and is changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db.models import signals

from aicache.freshness import family, outbox, transactions
from aicache.freshness.rows import Dying, touched, touched_by_key

CHANGES = {"post_add", "post_remove", "pre_clear"}


def connect() -> None:
    """To the relations of what is registered by now, in either direction."""
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.local_many_to_many:
            through: Any = field.remote_field.through
            if not isinstance(through, type) or not isinstance(field.related_model, type):
                continue  # not loaded yet
            if _concerns(model) or _concerns(field.related_model):
                signals.m2m_changed.connect(on_change, sender=through, dispatch_uid="aicache.freshness")


def _concerns(model: Any) -> bool:
    concrete = model._meta.concrete_model
    return bool(family.kin(concrete)) or bool(family.above(concrete))


def on_change(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, using: str, **_: Any
) -> None:
    if action not in CHANGES or (pk_set is not None and not pk_set):
        return
    cause = f"{action.partition('_')[2]} {sender._meta.label_lower}"
    with transactions.ensured(using):
        if action == "pre_clear":
            # Before anything is read: whoever begins a transaction on SQLite with reading is turned away.
            transactions.lock(sender, using)
        outbox.write(touched(instance, using), using=using, cause=cause)
        outbox.write(_others(sender, instance, reverse, model, pk_set, using), using=using, cause=cause)


def _others(through: Any, instance: Any, reverse: bool, model: Any, pk_set: Iterable[Any] | None, using: str) -> Dying:
    if not _concerns(model):
        return {}
    found: Dying = {}
    for field in _fields(through, type(instance) if not reverse else model):
        names = field.m2m_field_name(), field.m2m_reverse_field_name()
        mine, theirs = (through._meta.get_field(name) for name in (reversed(names) if reverse else names))
        if pk_set is None:
            rows = through._base_manager.using(using).filter(**{mine.name: instance})
            values: Iterable[Any] = rows.values_list(theirs.attname, flat=True)
        else:
            values = pk_set
        found |= touched_by_key(model, theirs.target_field.name, values, using)
    return found


def _fields(through: Any, source: Any) -> list[Any]:
    """The relations through a model, of which there is one unless somebody shares it."""
    return [field for field in source._meta.many_to_many if field.remote_field.through is through]
