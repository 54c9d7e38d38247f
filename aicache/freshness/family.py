"""Which models are registered, and which of them a table's rows belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db.models import Model

if TYPE_CHECKING:
    from aicache.freshness.options import Options


@dataclass(frozen=True, slots=True)
class Registered:
    """A concrete model whose rows are sources. Its proxies share it."""

    model: type[Model]
    options: Options

    @property
    def label(self) -> str:
        return label_of(self.model)


@dataclass(frozen=True, slots=True)
class Kin:
    """Whose rows lie in, or reach into, one table: ``own`` is its model; ``below`` inherit from it."""

    own: Registered | None
    below: tuple[Registered, ...]

    def __bool__(self) -> bool:
        return self.own is not None or bool(self.below)


_declared: Final[dict[type[Model], Options]] = {}
_registered: Final[dict[str, Registered]] = {}
_kin: Final[dict[type[Model], Kin]] = {}


def label_of(model: type[Model]) -> str:
    concrete: Any = model._meta.concrete_model or model
    label: str = concrete._meta.label_lower
    return label


def declare(model: type[Model], options: Options) -> list[Registered]:
    """Remembers it, also for what will inherit from an abstract one. Returns what is registered by it now."""
    _declared[model] = options
    adopted = (adopt(heir) for heir in [model, *descendants(model)])
    return [registered for registered in adopted if registered is not None]


def adopt(model: type[Model]) -> Registered | None:
    """Registers a concrete model by its own declaration, a proxy's, or that of the nearest abstract ancestor."""
    if model._meta.abstract or model._meta.swapped:
        return None
    concrete: Any = model._meta.concrete_model
    options = _declared.get(model) if model._meta.proxy else None
    for ancestor in concrete.__mro__:
        if options is None and ancestor in _declared and (ancestor is concrete or ancestor._meta.abstract):
            options = _declared[ancestor]
    if options is None:
        return None
    return keep(Registered(concrete, options))


def keep(registered: Registered) -> Registered:
    """Registers it, its fixed tags spelled by what else is registered now."""
    tags = registered.options.tags
    if isinstance(tags, frozenset):
        registered = replace(registered, options=replace(registered.options, tags=frozenset(map(spelled, tags))))
    _registered[registered.label] = registered
    _kin.clear()
    return registered


def find(model: type[Model]) -> Registered | None:
    """By its label, so that the historical model of a migration is the same."""
    return _registered.get(label_of(model))


def is_label(name: str) -> bool:
    return name in _registered


def spelled(name: str) -> str:
    """A tag that begins with the label of a registered model, or of a proxy of one, in any case: with the label that
    its rows' tags have. Any other as it is."""
    label, colon, rest = name.partition(":")
    if "." not in label or label in _registered:
        return name
    found = _concrete(label.lower())
    return name if found is None else f"{found}{colon}{rest}"


def _concrete(label: str) -> str | None:
    if label in _registered:
        return label
    app, _, name = label.partition(".")
    for known, models in list(apps.all_models.items()):  # the label of an app may have capitals
        if known.lower() == app and name in models and (found := find(models[name])) is not None:
            return found.label
    return None


def everyone() -> list[Registered]:
    return list(_registered.values())


def kin(model: type[Model]) -> Kin:
    """Of a concrete model."""
    found = _kin.get(model)
    if found is None:
        below = tuple(one for one in everyone() if model in one.model._meta.get_parent_list())
        own = _registered.get(label_of(model))
        found = _kin[model] = Kin(own if own is not None and own.model is model else None, below)
    return found


def above(model: type[Model]) -> list[Registered]:
    """The registered models that a concrete one inherits columns from."""
    found = (_registered.get(label_of(parent)) for parent in model._meta.get_parent_list())
    return [one for one in found if one is not None]


def descendants(model: type[Model]) -> Iterator[type[Model]]:
    for heir in model.__subclasses__():
        yield heir
        yield from descendants(heir)
