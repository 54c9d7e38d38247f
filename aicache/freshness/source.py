"""A row that an answer was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Model

from aicache.conf import get_settings
from aicache.errors import TenantMismatch
from aicache.freshness.family import Registered
from aicache.freshness.loads import Loads
from aicache.freshness.rows import name_of
from aicache.freshness.versions import version
from aicache.tenants import Tenant


class Source:
    """Of a saved instance of a registered model. It is read at each call, not when this was made.

    ``loads``: a call's, which loads what of it is not in memory, and may raise Unavailable.
    """

    __slots__ = ("_instance", "_registered")

    def __init__(self, instance: Model, registered: Registered) -> None:
        self._instance = instance
        self._registered = registered

    def __repr__(self) -> str:
        return f"<Source {self.label}>"

    @property
    def is_saved(self) -> bool:
        """False once it has lost its key: by its own ``delete()``, or to be saved as a copy."""
        return bool(self._instance._is_pk_set())  # type: ignore[attr-defined]  # Django's own

    @property
    def label(self) -> str:
        """Such as ``helpcentre.article:42``; the name that dies with this row alone. Of an unsaved one, the model's."""
        registered = self._registered
        if not self.is_saved:
            return registered.label
        return name_of(registered.label, registered.model, getattr(self._instance, registered.model._meta.pk.attname))

    @property
    def place(self) -> tuple[str, str]:
        """Which row it is: two databases may have one of the same label."""
        return self.label, self._instance._state.db or ""

    def names(self) -> frozenset[str]:
        """What an answer made from it hangs on. Raises ArgumentError where the site's callable says odd things."""
        return frozenset({self.label, self._registered.label}) | self._registered.options.tags_of(self._instance)

    def version(self, loads: Loads | None = None) -> str:
        """Another one when a column changes."""
        return version(self._instance, self._registered.options, loads or Loads())

    def tenant(self, loads: Loads | None = None) -> str | None:
        """Whose it is; None: everybody's."""
        if get_settings().single_tenant:
            return None
        return self._registered.options.tenant_of(self._instance, (loads or Loads()).along)


class Sources:
    """Those of a call. Of two instances of one row the later counts; of two rows of one label, in two databases, both.

    ``loads``, and what is raised, as with one.
    """

    __slots__ = ("_sources",)

    def __init__(self, sources: Iterable[Source]) -> None:
        places = {source.place: source for source in sources}
        # In the order of their places: however they were given, what is asked of them is the same question.
        self._sources = tuple(places[place] for place in sorted(places))

    def __bool__(self) -> bool:
        return bool(self._sources)

    def also(self, others: Sequence[Source]) -> Sources:
        return Sources((*self._sources, *others)) if others else self

    def unsaved(self) -> str | None:
        """The label of one that is none any more; None where each is."""
        return next((source.label for source in self._sources if not source.is_saved), None)

    def refuse_others(self, tenant: Tenant, loads: Loads) -> None:
        """Raises TenantMismatch where one is another tenant's than this."""
        for source in self._sources:
            if (whose := source.tenant(loads)) is not None and whose != tenant:
                raise TenantMismatch(f"sources contains {source.label}, which is {whose!r}'s, in a scope of {tenant!r}")

    def names(self) -> frozenset[str]:
        return frozenset[str]().union(*(source.names() for source in self._sources))

    def versions(self, loads: Loads) -> tuple[tuple[str, str], ...]:
        """Label and version of each row, as it is now; of two databases' rows of one label, both versions as one."""
        found: dict[str, str] = {}
        for source in self._sources:
            label, version = source.label, source.version(loads)
            found[label] = f"{found[label]} {version}" if label in found else version
        return tuple(found.items())
