"""Whose an answer is: a tenant's, or everybody's."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any, Final
from uuid import UUID

from aicache.core.tags import EVERYBODY, digest
from aicache.errors import ArgumentError


class Everybody(Enum):
    GLOBAL = "everybody"

    def __repr__(self) -> str:
        return "aicache.GLOBAL"


GLOBAL: Final = Everybody.GLOBAL
"""The tenant whose answers are everybody's."""

Tenant = str | Everybody


def tenant_digest(tenant: Tenant) -> str:
    return EVERYBODY if isinstance(tenant, Everybody) else digest("tenant", tenant)


ONLY: Final = "the only one"
"""The tenant of a site that has one."""


def shown(tenant: Tenant) -> str:
    """For people: "" where it goes without saying."""
    return "" if isinstance(tenant, Everybody) or tenant == ONLY else tenant


def normalised(value: Any, name: str) -> Tenant | None:
    """A tenant as str; None and "" are nobody. Raises ArgumentError."""
    if isinstance(value, Everybody):
        return value
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        if inspect.iscoroutine(value):
            value.close()
        raise ArgumentError(
            f"{name} is {value!r} ({type(value).__name__}); accepted: str, int, UUID or aicache.GLOBAL, "
            "such as the tenant's primary key"
        )
    return encodable(name, str(value))


def encodable(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{name} is or contains {text!r}; accepted: text without lone surrogates") from None
    return text


def named(tenant: Tenant | None) -> Tenant | None:
    """As the site named it: "" where it goes without saying, None for nobody."""
    return "" if tenant == ONLY else tenant


def labelled(tenant: Tenant | None) -> str:
    """For people and machines that know text only; in brackets what is no tenant's name. Named or not."""
    if tenant is None:
        return "(nobody)"
    if isinstance(tenant, Everybody):
        return "(everybody)"
    return "(the site)" if tenant in ("", ONLY) else tenant
