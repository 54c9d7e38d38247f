"""What a model was registered with, and what that says of a row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from aicache.core.tags import OURS
from aicache.errors import ArgumentError
from aicache.freshness import family
from aicache.tenants import Everybody, encodable, normalised

MOST_TAGS: Final = 64
LONGEST_TAG: Final = 200  # bytes of UTF-8

TENANT_ACCEPTED: Final = "accepted: a path of fields such as 'team__org', a callable of the instance, or None"
TAGS_ACCEPTED: Final = "accepted: a list of names, or a callable of the instance that returns one"
VERSION_ACCEPTED: Final = "accepted: the name of a field such as 'updated_at', a callable of the instance, or None"


@dataclass(frozen=True, slots=True)
class Options:
    """``tenant`` as a path is a tuple of field names; ``tags`` as names is a set of them."""

    tenant: tuple[str, ...] | Callable[[Any], Any] | None = None
    tags: frozenset[str] | Callable[[Any], Iterable[str]] = frozenset()
    version: str | Callable[[Any], Any] | None = None
    skip_unchanged: bool = False

    @property
    def needs_row(self) -> bool:
        """Whether it takes the row as it was to know what dies with a change of it."""
        return self.skip_unchanged or self.tenant is not None or callable(self.tags)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The fields that tell what dies with a row, besides its key; None: any may."""
        if self.skip_unchanged or callable(self.tags) or not (self.tenant is None or isinstance(self.tenant, tuple)):
            return None
        return (self.tenant or ("pk",))[:1]

    def tenant_of(self, instance: Model, follow: Callable[[tuple[str, ...], Model], Any] | None = None) -> str | None:
        """None: everybody's. Raises ArgumentError.

        ``follow``: what goes along a path; by default on the instance's own connection, where it leads over relations.
        """
        if self.tenant is None:
            return None
        value = (follow or along)(self.tenant, instance) if isinstance(self.tenant, tuple) else self.tenant(instance)
        if isinstance(value, Model):
            value = value.pk
        tenant = normalised(value, f"the tenant of {instance._meta.label} {instance.pk!r}")
        return None if isinstance(tenant, Everybody) else tenant

    def tags_of(self, instance: Model) -> frozenset[str]:
        """Raises ArgumentError."""
        if isinstance(self.tags, frozenset):
            return self.tags
        return names(self.tags(instance), f"the tags of {instance._meta.label} {instance.pk!r}")


def options(model: type[Model], tenant: Any, tags: Any, version: Any, skip_unchanged: Any) -> Options:
    """Raises ArgumentError that names the argument."""
    path: tuple[str, ...] | None = None
    if isinstance(tenant, str):
        path = tuple(tenant.replace(".", "__").split("__"))
    elif tenant is not None and (not callable(tenant) or inspect.isclass(tenant)):
        raise ArgumentError(f"tenant is {tenant!r}; {TENANT_ACCEPTED}")
    if version is not None and not isinstance(version, str) and (not callable(version) or inspect.isclass(version)):
        raise ArgumentError(f"version is {version!r}; {VERSION_ACCEPTED}")
    if not isinstance(skip_unchanged, bool):
        raise ArgumentError(f"skip_unchanged is {skip_unchanged!r}; accepted: True or False")
    for name, given in (("tenant", tenant), ("tags", tags), ("version", version)):
        if inspect.iscoroutinefunction(given):
            raise ArgumentError(f"{name} is the async {given!r}; accepted: a callable that is not")
    if tags is None:
        tags = frozenset()
    elif inspect.isclass(tags) or not callable(tags):
        tags = names(tags, "tags")
    made = Options(path if path is not None else tenant, tags, version, skip_unchanged)
    check(model, made)
    return made


def check(model: type[Model], chosen: Options) -> None:
    """The fields that are named exist, as far as it can be known by now. Raises ArgumentError."""
    if isinstance(chosen.version, str):
        try:
            field = model._meta.get_field(chosen.version)
        except FieldDoesNotExist:
            raise ArgumentError(
                f"version is {chosen.version!r}, which is no field of {model.__name__}; {VERSION_ACCEPTED}"
            ) from None
        if not field.concrete or field.many_to_many:
            raise ArgumentError(f"version is {chosen.version!r}, which is no column; {VERSION_ACCEPTED}")
    if not isinstance(chosen.tenant, tuple):
        return
    at: Any = model
    for depth, segment in enumerate(chosen.tenant):
        shown = "__".join(chosen.tenant)
        try:
            found: Any = at._meta.pk if segment == "pk" else at._meta.get_field(segment)
        except FieldDoesNotExist:
            raise ArgumentError(
                f"tenant is {shown!r}, but {at.__name__} has no field {segment!r}; {TENANT_ACCEPTED}"
            ) from None
        if found is None:  # of an abstract model
            return
        if not found.concrete or found.many_to_many:
            raise ArgumentError(f"tenant is {shown!r}, but {segment!r} is not one column; {TENANT_ACCEPTED}")
        if depth == len(chosen.tenant) - 1:
            return
        if not found.is_relation:
            raise ArgumentError(f"tenant is {shown!r}, but {segment!r} leads nowhere; {TENANT_ACCEPTED}")
        at = found.remote_field.model
        if isinstance(at, str):  # not loaded yet
            return


def listed(given: Any, name: str, accepted: str) -> Iterable[Any]:
    """Raises ArgumentError for what can be iterated over and is no list: a text, a mapping."""
    if isinstance(given, str | bytes | bytearray | memoryview | Mapping) or not isinstance(given, Iterable):
        if inspect.iscoroutine(given):
            given.close()
        raise ArgumentError(f"{name} is {given!r}; {accepted}")
    return given


def names(given: Any, name: str, accepted: str = TAGS_ACCEPTED) -> frozenset[str]:
    """Raises ArgumentError."""
    found = frozenset(one_name(item, name) for item in listed(given, name, accepted))
    if len(found) > MOST_TAGS:
        raise ArgumentError(f"{name} has {len(found)} tags; accepted: at most {MOST_TAGS} a call")
    return found


def one_name(item: Any, name: str) -> str:
    """A tag, spelled as tags are. Raises ArgumentError."""
    if not isinstance(item, str):
        raise ArgumentError(f"{name} contains {item!r} ({type(item).__name__}); accepted: str")
    size = len(encodable(name, item).encode())
    if not 1 <= size <= LONGEST_TAG:
        shown = item if len(item) <= 60 else f"{item[:60]}…"
        raise ArgumentError(f"{name} contains {shown!r} of {size} bytes; accepted: 1 to {LONGEST_TAG} bytes")
    if item.startswith(OURS):
        raise ArgumentError(f"{name} contains {item!r}; accepted: names that do not begin with {OURS!r}")
    return family.spelled(str(item))


def along(path: tuple[str, ...], instance: Model) -> Any:
    value: Any = instance
    for segment in path[:-1]:
        value = getattr(value, segment)
        if value is None:
            return None
    field = value._meta.pk if path[-1] == "pk" else value._meta.get_field(path[-1])
    return getattr(value, field.attname)
