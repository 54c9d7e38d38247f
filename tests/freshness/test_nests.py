"""Any nest of transactions and savepoints, some of which fail: what is committed is applied, and nothing else."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicache.core.tags import Tag
from aicache.freshness.outbox import uncommitted
from aicache.models import Invalidation
from tests.freshness.library.models import ByName
from tests.freshness.recorder import Recorder, tags

pytestmark = pytest.mark.django_db(transaction=True)


class Failed(Exception):
    pass


@dataclass(frozen=True)
class Save:
    name: str


@dataclass(frozen=True)
class Fail:
    pass


@dataclass(frozen=True)
class Block:
    """``caught``: an error inside ends here; only where there is a savepoint to go back to."""

    inside: tuple[Any, ...]
    savepoint: bool
    caught: bool


@dataclass(frozen=True)
class ByHand:
    """A savepoint that is rolled back without an error."""

    inside: tuple[Any, ...]


saves = st.builds(Save, st.sampled_from("abc"))
steps = st.recursive(
    st.one_of(saves, saves, saves, st.builds(Fail)),
    lambda inner: st.one_of(
        st.builds(Block, st.lists(inner, max_size=4).map(tuple), st.booleans(), st.booleans()),
        st.builds(ByHand, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)
NAMES = [f"library.byname:{name}" for name in "abc"]


class Run:
    """Does it, and knows what should come of it: ``held`` now, ``committed`` so far."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.committed: list[str] = []

    def step(self, step: Any) -> None:
        match step:
            case Save(name):
                ByName(name=name, text="x").save()
                self.held.add(f"library.byname:{name}")
                if not connection.in_atomic_block:
                    self.commit()
            case Fail():
                raise Failed
            case Block(inside, savepoint, caught):
                outermost = not connection.in_atomic_block
                before = set(self.held)
                with contextlib.suppress(*([Failed] if caught and (savepoint or outermost) else [])):
                    try:
                        with transaction.atomic(savepoint=savepoint):
                            self.steps(inside)
                    except Failed:
                        self.held = before
                        raise
                if outermost:
                    self.commit()
            case ByHand(inside) if connection.in_atomic_block:
                before = set(self.held)
                savepoint_id = connection.savepoint()
                self.steps(inside)
                connection.savepoint_rollback(savepoint_id)
                self.held = before
            case ByHand(inside):
                self.steps(inside)
        for tag in tags(*NAMES):
            assert (uncommitted([tag]) is not None) == (tag.name in self.held)

    def steps(self, inside: tuple[Any, ...]) -> None:
        for step in inside:
            self.step(step)

    def commit(self) -> None:
        self.committed += sorted(self.held)
        self.held.clear()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=4).map(tuple))
def test_what_is_committed_is_applied_and_nothing_else(store: Recorder, program: tuple[Any, ...]) -> None:
    for model in (Invalidation, ByName):
        model.objects.all().delete()  # type: ignore[attr-defined]
    Invalidation.objects.all().delete()
    store.stamped.clear()
    run = Run()
    for step in program:
        with contextlib.suppress(Failed):
            run.step(step)
    rows = [name for name in Invalidation.objects.values_list("tag", flat=True) if not name.endswith("*")]
    applied = [tag.name for stamped in store.stamped for tag in stamped if not tag.name.endswith("*")]
    assert sorted(rows) == sorted(applied) == sorted(run.committed)
    assert not Invalidation.objects.filter(applied_at=None).exists()
    assert uncommitted([Tag(name, tag.tenant) for tag in tags("") for name in NAMES]) is None
