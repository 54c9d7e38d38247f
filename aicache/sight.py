"""Whose rows a user may see: all, or those of the tenants that ``AICACHE["STAFF_TENANTS"]`` names."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.translation import gettext as _

from aicache.conf import get_settings
from aicache.tenants import Tenant, normalised, tenant_digest

logger = logging.getLogger("aicache")

RESULT: Final = 'the result of AICACHE["STAFF_TENANTS"]'
KEPT: Final = "_aicache_sight"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a user may see: ``owners`` are digests of tenants; None: everything, also what is nobody's.

    ``tenants``: the same by their names.
    """

    owners: frozenset[str] | None
    tenants: tuple[Tenant, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, tenants: Iterable[Tenant]) -> Sight:
        named = tuple(dict.fromkeys(tenants))
        return cls(frozenset(map(tenant_digest, named)), named)

    def covers(self, owner: str) -> bool:
        return self.owners is None or owner in self.owners

    @property
    def is_nothing(self) -> bool:
        return self.owners is not None and not self.owners


EVERYTHING: Final = Sight(None)
NOTHING: Final = Sight(frozenset())


def sight(request: HttpRequest) -> Sight:
    """The site is asked once for each request. Where it fails, or says nonsense, that is logged and nothing is seen."""
    found: Sight | None = getattr(request, KEPT, None)
    if found is None:
        found = _asked(request)
        setattr(request, KEPT, found)
    return found


def _asked(request: HttpRequest) -> Sight:
    ask = get_settings().staff_tenants
    if ask is None:
        return EVERYTHING
    try:
        said = ask(request)
        return EVERYTHING if said is None else _of(said)
    except Exception:
        logger.exception('AICACHE["STAFF_TENANTS"] does not say whose rows may be seen: none are shown')
        told = _("Whose rows you may see could not be told, so none are shown. The site's log says why.")
        messages.error(request, told, fail_silently=True)
        return NOTHING


def _of(said: Any) -> Sight:
    """Raises ImproperlyConfigured and ArgumentError, and whatever the site's own code does."""
    if inspect.iscoroutine(said):
        said.close()
    if isinstance(said, str | bytes) or not isinstance(said, Iterable):
        raise ImproperlyConfigured(f"{RESULT} is {said!r}; accepted: None, or an iterable of tenants")
    tenants = [normalised(tenant, RESULT) for tenant in said]
    return Sight.of(tenant for tenant in tenants if tenant is not None)
