"""What figures are told apart by: whose a call was, which model it asked, and by which policy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from aicache.core.tags import EVERYBODY
from aicache.tenants import ONLY, Tenant, shown, tenant_digest

ALL: Final = "all"
"""The owner of rows that are the sum of all owners' in that time."""
OF_PLACE, OF_OWNER, OF_ALL = 0, 1, 2
"""What a row is the sum of."""
OTHERS: Final = "others"
"""The owner of what is not told apart any more."""
NOBODY: Final = ""
LABELS: Final[dict[str, str]] = {
    NOBODY: "(nobody)",
    EVERYBODY: "(everybody)",
    tenant_digest(ONLY): "(the site)",
    OTHERS: "(others)",
}


class Rest(Enum):
    """Stands for a tenant where there are too many."""

    REST = OTHERS


@dataclass(frozen=True, slots=True)
class Owner:
    """A tenant of whom the digest is known. ``label``: the name, perhaps cut to fit."""

    digest: str
    label: str
    everybody: bool


class Place(NamedTuple):
    """``tenant``: None is nobody. ``policy``: its name."""

    tenant: Tenant | None
    model: str = ""
    policy: str = ""

    @classmethod
    def of(cls, owner: Owner | Rest, model: str = "", policy: str = "") -> Place:
        """Where no call is, but what is counted of several, or of what is remembered."""
        tenant: Any = owner
        return cls(tenant, model, policy)


ELSEWHERE: Final = Place.of(Rest.REST)


def whose(tenant: Any) -> dict[str, Any]:
    """The columns of a row."""
    match tenant:
        case None:
            return {"owner": NOBODY, "tenant": "", "everybody": False}
        case Rest():
            return {"owner": OTHERS, "tenant": "", "everybody": False}
        case Owner():
            return {"owner": tenant.digest, "tenant": tenant.label, "everybody": tenant.everybody}
    digest = tenant_digest(tenant)
    return {"owner": digest, "tenant": label(shown(tenant)), "everybody": digest == EVERYBODY}


LONGEST: Final = 255


def label(name: str) -> str:
    """A name as it can be written down: PostgreSQL takes no NUL, and there is so much room for it."""
    return name.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:LONGEST]
