"""What answers hang on: a tag's name, as one tenant's or as everybody's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


def digest(kind: str, name: str) -> str:
    """A fixed-length stand-in for a name that users choose; equal names of other kinds get another one."""
    return hashlib.sha256(f"{kind}\0{name}".encode()).hexdigest()[:32]


EVERYBODY: Final = digest("everybody", "")
"""The digest of the tenant whose answers are everybody's."""

MEMBERS: Final = ":*"


def members(label: str) -> str:
    """The name that dies with every row of a model, where ``label`` itself dies only by its own name.

    An answer that was made from one row hangs on the model's label, so that the label can be purged; it must not die
    with each other row. An answer that is tagged with the label by hand means all rows, and hangs on this too.
    """
    return label + MEMBERS


@dataclass(frozen=True, slots=True)
class Tag:
    """A name as one tenant's, or as everybody's; each has a stamp of its own. ``tenant`` is a digest."""

    name: str
    tenant: str

    @property
    def digest(self) -> str:
        """Its name in Redis and in the database: 32 hex digits."""
        return _digest(self.tenant, self.name)

    @property
    def shown(self) -> str:
        """The name as its owner knows it."""
        return self.name.removesuffix(MEMBERS)


@lru_cache(maxsize=4096)
def _digest(tenant: str, name: str) -> str:
    return digest("tag", f"{tenant}\0{name}")


def hanging(names: Iterable[str], tenant: str) -> tuple[Tag, ...]:
    """The tags whose stamps decide about an answer of ``tenant`` (a digest): by each name its own and everybody's."""
    tenants = (tenant,) if tenant == EVERYBODY else (tenant, EVERYBODY)
    return tuple(Tag(name, whose) for name in sorted(names) for whose in tenants)
