"""The two customers of this help-centre, and which of them a request is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Tenant:
    slug: str
    name: str
    trade: str | Promise


TENANTS: Final = {
    tenant.slug: tenant
    for tenant in (
        Tenant("acme", "Acme", _("Outdoor gear, sent to your door")),
        Tenant("globex", "Globex", _("Coffee machines and fresh beans")),
    )
}


def tenant_of(request: HttpRequest) -> str | None:
    """``AICACHE["TENANT"]``: the first part of the path, where it is a customer's. From the server's side only."""
    first = request.path_info.lstrip("/").partition("/")[0]
    return first if first in TENANTS else None


def staff_tenants(request: HttpRequest) -> list[str] | None:
    """``AICACHE["STAFF_TENANTS"]``: the customers whose group a user is in; superusers see them all."""
    if request.user.is_superuser:
        return None
    return list(request.user.groups.filter(name__in=TENANTS).values_list("name", flat=True))


class TenantConverter:
    """``<tenant:tenant>`` in a URL: a view is given the Tenant."""

    regex = "|".join(TENANTS)

    def to_python(self, value: str) -> Tenant:
        return TENANTS[value]

    def to_url(self, value: Tenant | str) -> str:
        return value.slug if isinstance(value, Tenant) else value
