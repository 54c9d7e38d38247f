"""What has versions, who may write it, and the questions whose answers are made from it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import aicache

TENANTS: Final = ("acme", "globex", "initech")
KINDS: Final = ("document",) * 5 + ("notice", "page", "shelf", "shelf", "page")
LABEL: Final = "torture.document"
LEAST: Final = 6


@dataclass(frozen=True)
class Cell:
    """One row, or none where it is deleted. ``tenant`` None: everybody's. One writer alone writes it."""

    number: int
    kind: str
    tenant: str | None
    writer: int

    @property
    def tag(self) -> str:
        return {"document": f"{LABEL}:{self.number}", "notice": f"torture.notice:{self.number}"}.get(
            self.kind, f"shelf:{self.number}"
        )


@dataclass(frozen=True)
class Question:
    """``sources``: cells that are given as instances, which say nothing of versions; the others by their tags."""

    number: int
    tenant: Any
    cells: tuple[Cell, ...]
    tags: tuple[str, ...] = ()
    sources: tuple[Cell, ...] = ()

    @property
    def text(self) -> str:
        """Which rows, and not one word of how they are."""
        return f"Question {self.number} of rows {','.join(str(cell.number) for cell in self.cells)}"

    @cached_property
    def instances(self) -> list[Any]:
        from tests.torture.models import Document, Notice

        return [
            Document(pk=cell.number, org=cell.tenant) if cell.kind == "document" else Notice(pk=cell.number)
            for cell in self.sources
        ]


def cells_for(number: int, writers: int, rng: random.Random) -> list[Cell]:
    """``number``: at least ``LEAST``, so that each tenant has, with everybody's, what a question of three needs."""
    found: list[Cell] = []
    owners: list[str | None] = []
    for at in range(number):
        kind = KINDS[at % len(KINDS)]
        if not owners:
            owners = rng.sample((*TENANTS, None), 4)
        tenant = None if kind == "notice" else owners.pop()
        found.append(Cell(at, kind, tenant, writer=(at + at // len(KINDS)) % writers))
    return found


def questions_of(cells: list[Cell], rng: random.Random) -> list[Question]:
    """Those that are asked most come first."""
    found: list[tuple[Any, dict[str, Any]]] = []
    for cell in cells:
        whose = rng.choice((*TENANTS, aicache.GLOBAL)) if cell.tenant is None else cell.tenant
        if cell.kind == "page":
            found.append((whose, {"cells": (cell,)}))
            continue
        found.append((whose, {"cells": (cell,), "tags": (cell.tag,)}))
        if cell.kind != "shelf":
            found.append((whose, {"cells": (cell,), "sources": (cell,)}))
    for _ in range(len(cells) // 2):
        whose = rng.choice(TENANTS)
        some = rng.sample([cell for cell in cells if cell.tenant in (whose, None) and cell.kind != "page"], 3)
        shelves = tuple(cell.tag for cell in some if cell.kind == "shelf")
        rows = tuple(cell for cell in some if cell.kind != "shelf")
        found.append((whose, {"cells": tuple(some), "tags": shelves, "sources": rows}))
    rng.shuffle(found)
    for whose in TENANTS:  # of all rows of a model, those to come included
        rows = tuple(cell for cell in cells if cell.kind == "document" and cell.tenant in (whose, None))
        found.append((whose, {"cells": rows, "tags": (LABEL,)}))
    return [Question(number, whose, **more) for number, (whose, more) in enumerate(found)]
