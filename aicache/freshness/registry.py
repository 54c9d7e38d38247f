"""``register``: makes the rows of a model sources, whose changes end the answers made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from django.apps import apps
from django.db.models import Model, signals

from aicache.errors import ArgumentError
from aicache.freshness import deletes, family, links, saves
from aicache.freshness.family import Registered, is_label
from aicache.freshness.options import check, options
from aicache.freshness.rows import is_to_insert
from aicache.freshness.source import Source

__all__ = ["is_label", "register", "source_of"]

M = TypeVar("M", bound=type[Model])
UID = "aicache.freshness"


@overload
def register(
    model: M,
    *,
    tenant: str | Callable[[Any], Any] | None = None,
    tags: Iterable[str] | Callable[[Any], Iterable[str]] | None = None,
    version: str | Callable[[Any], Any] | None = None,
    skip_unchanged: bool = False,
) -> M: ...


@overload
def register(
    model: None = None,
    *,
    tenant: str | Callable[[Any], Any] | None = None,
    tags: Iterable[str] | Callable[[Any], Iterable[str]] | None = None,
    version: str | Callable[[Any], Any] | None = None,
    skip_unchanged: bool = False,
) -> Callable[[M], M]: ...


def register(
    model: Any = None, *, tenant: Any = None, tags: Any = None, version: Any = None, skip_unchanged: bool = False
) -> Any:
    """Makes a model's rows sources; as a function or as a decorator. Of an abstract model: those of its heirs.

    ``tenant``: a path of fields (``"team__org"``) or a callable; None, or no tenant at its end: everybody's. ``tags``:
    further names, or a callable of the instance. ``version``: a field or a callable; by default a hash of the columns.
    ``skip_unchanged``: a save that changes no column invalidates nothing, for the price of two queries.

    A second registration replaces the first. Raises ArgumentError, also for a field that is not there.
    """
    if model is None:

        def decorate(decorated: Any) -> Any:
            return register(decorated, tenant=tenant, tags=tags, version=version, skip_unchanged=skip_unchanged)

        return decorate
    if not isinstance(model, type) or not issubclass(model, Model) or model is Model:
        raise ArgumentError(f"model is {model!r}; accepted: a model class")
    chosen = options(model, tenant, tags, version, skip_unchanged)
    for registered in family.declare(model, chosen):
        _listen(registered)
    _connect()
    return model


def source_of(instance: Any) -> Source:
    """Raises ArgumentError for what is not registered, or was not saved: by its key, or as Django would insert it."""
    if not isinstance(instance, Model):
        raise ArgumentError(f"sources contains {instance!r} ({type(instance).__name__}); accepted: model instances")
    registered = family.find(type(instance))
    if registered is None:
        raise ArgumentError(
            f"sources contains a {instance._meta.label}, which is not registered; accepted: instances of models given "
            "to aicache.register"
        )
    source = Source(instance, registered)
    if not source.is_saved or is_to_insert(instance, registered.model):
        raise ArgumentError(
            f"sources contains an unsaved {instance._meta.label}; accepted: saved instances; where keys have a "
            "default, those that were saved or loaded"
        )
    return source


def verify() -> None:
    """Once all models are loaded: what could not be known while they were. Raises ArgumentError."""
    for registered in family.everyone():
        check(registered.model, registered.options)
        family.keep(registered)
    _connect()


def _connect() -> None:
    """To other models, once those are loaded."""
    if apps.models_ready:
        links.connect()
        deletes.hear_targets()


def _listen(registered: Registered) -> None:
    model = registered.model
    saves.install(model)
    for parent in model._meta.get_parent_list():
        saves.install(parent)
    _hear(model)
    for heir in family.descendants(model):
        if heir._meta.concrete_model is model:
            _hear(heir)


def _hear(model: type[Model]) -> None:
    signals.post_save.connect(saves.on_post_save, sender=model, dispatch_uid=UID)
    deletes.hear(model)


def _prepared(sender: Any, **_: Any) -> None:
    """A class that comes after the registration of what it inherits from."""
    if sender.__module__ == "__fake__":  # a migration's
        return
    if sender._meta.proxy:
        if family.find(sender) is not None:
            _hear(sender)
    elif (registered := family.adopt(sender)) is not None:
        _listen(registered)
    _connect()


signals.class_prepared.connect(_prepared, dispatch_uid=UID)
