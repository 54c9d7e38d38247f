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


def place(kind: str, site: str, tenant: str, name: str) -> str:
    """The digest under which a row is found: no other site, and no other tenant, comes to the same."""
    return digest(kind, f"{site}\0{tenant}\0{name}")


EVERYBODY: Final = digest("everybody", "")
"""The digest of the tenant whose answers are everybody's."""

MEMBERS: Final = ":*"


def members(label: str) -> str:
    """The name that dies with every row of a model, where ``label`` itself dies only by its own name.

    An answer that was made from one row hangs on the model's label, so that the label can be purged; it must not die
    with each other row. An answer that is tagged with the label by hand means all rows, and hangs on this too.
    """
    return label + MEMBERS


OURS: Final = "aicache:"
"""How no tag of a site's begins."""
_ANSWER: Final = OURS + "answer:"


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
        return "answer" if self.name.startswith(_ANSWER) else self.name.removesuffix(MEMBERS)

    @property
    def answer(self) -> tuple[str, str, str] | None:
        """Of the tag of a single answer: its tenant's digest, the lineage and the key."""
        if not self.name.startswith(_ANSWER):
            return None
        owner, lineage, key = self.name.removeprefix(_ANSWER).split(":")
        return owner, lineage, key


def of_answer(lineage: str, key: str, tenant: str) -> Tag:
    """What a single answer dies of that is purged by itself. It has no stamp: the answer is deleted where it stands."""
    return Tag(f"{_ANSWER}{tenant}:{lineage}:{key}", tenant)


@lru_cache(maxsize=4096)
def _digest(tenant: str, name: str) -> str:
    return digest("tag", f"{tenant}\0{name}")


def hanging(names: Iterable[str], tenant: str) -> tuple[Tag, ...]:
    """The tags whose stamps decide about an answer of ``tenant`` (a digest): by each name its own and everybody's."""
    tenants = (tenant,) if tenant == EVERYBODY else (tenant, EVERYBODY)
    return tuple(Tag(name, whose) for name in sorted(names) for whose in tenants)
