"""A process that changes rows in every way that there is, and says which versions are acknowledged."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction

import aicache
from aicache import signals
from aicache.core.tags import Tag
from aicache.freshness import stamps
from aicache.models import CacheEntry, Invalidation
from aicache.purge import Purge, carry_out
from tests.torture.board import Board
from tests.torture.cells import Cell
from tests.torture.models import Document, Label, Notice, Page, Shelf, Tombstone
from tests.torture.place import Truth

logger = logging.getLogger("torture")

PAUSE = 0.25  # seconds between two writes of one writer, on average
READS = 6  # as many, for each write of all writers, are waited for: on a busy machine nothing would be kept for long
PATIENCE = 2.0  # seconds that are waited for them at most: readers may be waiting too
KILLED = 0.035  # the share of writes during which it is killed: at any moment, and as often at each of three steps
SLOWED = 0.05  # the share of writes whose stamps come late
LONGEST_SAVE = 0.01


class Outcome:
    """What was said of the stamps of one write, in this process."""

    def __init__(self) -> None:
        self.reset()
        signals.tag_invalidated.connect(self._on_invalidated)
        signals.invalidation_pending.connect(self._on_pending)

    def reset(self) -> None:
        self.applied = self.pending = False

    def _on_invalidated(self, **_: Any) -> None:
        self.applied = True

    def _on_pending(self, **_: Any) -> None:
        self.pending = True


class Perils:
    """Where a save can die that matters: before its invalidation is written, before its stamps, before its mark."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        apply: Any = stamps.apply

        def applying(*args: Any, **kwargs: Any) -> None:
            self._perhaps_die()
            if self._rng.random() < SLOWED:
                time.sleep(self._rng.uniform(0.02, 0.3))
            apply(*args, **kwargs)
            self._perhaps_die()

        stamps.apply = applying
        connection.ensure_connection()
        connection.execute_wrappers.append(self._executing)

    def around_a_write(self) -> None:
        if self._rng.random() < KILLED:
            threading.Thread(target=_die, args=(self._rng.uniform(0, LONGEST_SAVE),), daemon=True).start()

    def _executing(self, execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT") and Invalidation._meta.db_table in sql:
            self._perhaps_die()
        return execute(sql, *rest)

    def _perhaps_die(self) -> None:
        if self._rng.random() < KILLED:
            _die(0)


def _die(after: float) -> None:
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGKILL)


class Writer:
    """``answers``: by cell, the tags of the single answers that are made from it."""

    def __init__(self, cells: list[Cell], answers: Mapping[int, Sequence[Tag]], rng: random.Random) -> None:
        self.cells = cells
        self.answers = answers
        self.rng = rng
        self.versions: dict[int, int] = {}
        self.ways: dict[str, list[Callable[[Cell], list[int]]]] = {
            "document": [
                *(self.save, self.save, self.save, self.asave, self.save_column),
                *(self.save_in_atomic, self.save_nested, self.save_with_failing_hook),
                *(self.update, self.upsert_many, self.change_links, self.delete),
            ],
            "notice": [self.save, self.asave, self.save_column, self.save_in_atomic, self.save_nested],
            "shelf": [self.purge, self.purge, self.purge_by_command],
            "page": [self.purge_answers],
        }

    def write(self) -> list[int]:
        """→ the cells whose versions went up."""
        (cell,) = self.rng.choices(self.cells, [1 / (at + 1) ** 1.5 for at in range(len(self.cells))])
        return self.rng.choice(self.ways[cell.kind])(cell)

    def _next(self, cell: Cell) -> int:
        self.versions[cell.number] = self.versions.get(cell.number, 0) + 1
        return self.versions[cell.number]

    def _row(self, cell: Cell) -> Any:
        if cell.kind == "document":
            return Document(pk=cell.number, org=cell.tenant, version=self._next(cell))
        return Notice(pk=cell.number, version=self._next(cell))

    def save(self, cell: Cell) -> list[int]:
        self._row(cell).save()
        return [cell.number]

    def save_in_atomic(self, cell: Cell) -> list[int]:
        with transaction.atomic():
            self._row(cell).save()
        return [cell.number]

    def save_nested(self, cell: Cell) -> list[int]:
        """In a savepoint that stands, after one that is rolled back."""
        with transaction.atomic():
            try:
                with transaction.atomic():
                    self._row(cell).save()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            with transaction.atomic():
                self._row(cell).save()
        return [cell.number]

    def save_column(self, cell: Cell) -> list[int]:
        row = self._row(cell)
        if type(row).objects.filter(pk=row.pk).exists():
            row.save(update_fields=["version"])
        else:
            row.save(force_insert=True)
        return [cell.number]

    def asave(self, cell: Cell) -> list[int]:
        asyncio.run(self._row(cell).asave())
        return [cell.number]

    def save_with_failing_hook(self, cell: Cell) -> list[int]:
        """The site's hook, which asked to come first, fails."""

        def fail() -> None:
            raise ZeroDivisionError

        try:
            with transaction.atomic():
                transaction.on_commit(fail)
                self._row(cell).save()
        except ZeroDivisionError:
            pass
        return [cell.number]

    def update(self, cell: Cell) -> list[int]:
        with transaction.atomic():
            row = self._row(cell)
            if not Document.objects.filter(pk=row.pk).update(version=row.version):
                row.save(force_insert=True)
            aicache.invalidate(row)
        return [cell.number]

    def upsert_many(self, cell: Cell) -> list[int]:
        mine = [cell, *(other for other in self.cells if other.kind == "document" and other is not cell)][:4]
        with transaction.atomic():
            rows = [self._row(one) for one in mine]
            Document.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["id"], update_fields=["version", "org"]
            )
            aicache.invalidate(Document.objects.filter(pk__in=[row.pk for row in rows]))
        return [one.number for one in mine]

    def delete(self, cell: Cell) -> list[int]:
        version = self._next(cell)
        with transaction.atomic():
            _put(Tombstone, cell.number, version)
            deleted, _ = Document.objects.filter(pk=cell.number).delete()
            if not deleted:
                aicache.invalidate(Document(pk=cell.number, org=cell.tenant))
        return [cell.number]

    def change_links(self, cell: Cell) -> list[int]:
        """The one thing that a signal tells of is the relation."""
        with transaction.atomic():
            row = self._row(cell)
            if not Document.objects.filter(pk=row.pk).update(version=row.version):
                row.save(force_insert=True)
            if row.labels.exists():
                row.labels.clear()
            else:
                row.labels.add(Label.objects.order_by("id").values_list("pk", flat=True)[0])
        return [cell.number]

    def purge(self, cell: Cell) -> list[int]:
        with transaction.atomic():
            _put(Shelf, cell.number, self._next(cell))
            whose = cell.tenant if cell.tenant is not None and self.rng.random() < 0.7 else aicache.GLOBAL
            aicache.invalidate(cell.tag, tenant=whose)
        return [cell.number]

    def purge_by_command(self, cell: Cell) -> list[int]:
        with transaction.atomic():
            _put(Shelf, cell.number, self._next(cell))
            whose = ["--all-tenants"] if cell.tenant is None else ["--tenant", cell.tenant]
            call_command("purge_tag", cell.tag, *whose, stdout=io.StringIO(), stderr=io.StringIO())
        return [cell.number]

    def purge_answers(self, cell: Cell) -> list[int]:
        """As the admin does, which may delete their copies too, or know of none."""
        tags = tuple(self.answers[cell.number])
        version, deletes = self._next(cell), self.rng.random() < 0.5

        def also() -> None:
            _put(Page, cell.number, version)
            if deletes:
                CacheEntry.objects.filter(lineage__in=[tag.answer[1] for tag in tags if tag.answer]).delete()

        carry_out([Purge(tags, None)], also=also)
        return [cell.number]


def _put(model: Any, pk: int, version: int) -> None:
    """Begins with a write: on SQLite a transaction that begins with reading may be turned away."""
    if not model.objects.filter(pk=pk).update(version=version):
        model.objects.create(pk=pk, version=version)


def _wait_for_readers(board: Board, until: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while board.readers.total("reads") < until and not board.stopping and time.monotonic() < deadline:
        time.sleep(0.02)


def run(
    board: Board,
    slot: int,
    cells: list[Cell],
    answers: Mapping[int, Sequence[Tag]],
    configuration: dict[str, Any],
    seed: int,
) -> None:
    rng, truth, outcome = random.Random(seed), Truth(configuration), Outcome()
    writer = Writer(cells, answers, rng)
    numbers = [cell.number for cell in cells]
    writer.versions = truth.versions(numbers)
    perils = Perils(rng)
    while not board.stopping:
        reads = board.readers.total("reads")
        time.sleep(rng.expovariate(1 / PAUSE))
        _wait_for_readers(board, reads + READS * board.writers.rows)
        outcome.reset()
        perils.around_a_write()
        try:
            written = writer.write()
        except Exception:
            logger.exception("a write failed")
            board.writers.add(slot, "failures")
            writer.versions = truth.versions(numbers)
            continue
        board.writers.add(slot, "saves")
        board.writers.add(slot, "purges", sum(number in answers for number in written))
        if outcome.pending:
            board.writers.add(slot, "pending")
        elif outcome.applied:
            for number in written:
                board.acknowledged.set(number, "saver", writer.versions[number])
        else:
            logger.error("a write of %s invalidated nothing", written)
            board.writers.add(slot, "silent")
