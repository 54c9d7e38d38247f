"""Promise 1 holds in whatever order the steps are taken, and each known mistake breaks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from aicache.testing.valkey import Valkey
from tests.freshness_machine import durable, mutants
from tests.freshness_machine.change import made
from tests.freshness_machine.inmemory import MemoryMachine
from tests.freshness_machine.machine import Machine
from tests.freshness_machine.onredis import RedisMachine
from tests.freshness_machine.oracle import Broken
from tests.freshness_machine.stage import set_up
from tests.freshness_machine.worlds import WORLDS

# AICACHE_EXAMPLES=100 tries a hundred times as many, and others each time.
TIMES = int(os.environ.get("AICACHE_EXAMPLES", "1"))
# AICACHE_SHRINK=1 looks for a shorter way to what was found; it takes minutes: give pytest --timeout=0.
SHRINK = [Phase.shrink] if os.environ.get("AICACHE_SHRINK") else []
SOME = settings(
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=TIMES == 1,
    report_multiple_bugs=False,
    phases=[Phase.generate, *SHRINK],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
MUTANTS = {**mutants.MUTANTS, **durable.MUTANTS}
IN_MEMORY = {**mutants.IN_MEMORY, **durable.IN_MEMORY}
HARMLESS = {**mutants.HARMLESS, **durable.HARMLESS}
# A mutant is found much sooner; see the docs of each world.
FOUND_WITHIN = 1500
HUNT = settings(SOME, max_examples=FOUND_WITHIN, phases=[Phase.generate], derandomize=True)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Valkey() as server:
        yield server.url


@pytest.fixture(autouse=True)
def staged() -> Iterator[None]:
    with set_up():
        yield


def a_machine(of: type[Machine], world: str, **more: Any) -> type[Machine]:
    return type(f"{world.title()}Machine", (of,), {**WORLDS[world], **more})


def run(machine: type[Machine], examples: settings) -> None:
    run_state_machine_as_test(machine, settings=examples)


@pytest.mark.parametrize("cluster", [False, True], ids=["server", "cluster"])
@pytest.mark.parametrize("world", WORLDS)
def test_nothing_stale_is_served_and_everybody_is(world: str, cluster: bool, url: str) -> None:
    many = 60 if world == "everything" else 25
    run(a_machine(RedisMachine, world, url=url, cluster=cluster), settings(SOME, max_examples=many * TIMES))


@pytest.mark.parametrize("world", [name for name in WORLDS if name not in ("snapshots", "outages")])
def test_nor_by_the_store_of_the_tests(world: str) -> None:
    run(a_machine(MemoryMachine, world), settings(SOME, max_examples=40 * TIMES))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_found(name: str, url: str) -> None:
    world, *changes = MUTANTS[name]
    with made(changes), pytest.raises(Broken, match=r"STALE|INSIDE|APART"):
        run(a_machine(RedisMachine, world, url=url, settles=False), HUNT)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_mistake_of_the_store_of_the_tests_is_found(name: str) -> None:
    world, *changes = IN_MEMORY[name]
    with made(changes), pytest.raises(Broken, match="STALE"):
        run(a_machine(MemoryMachine, world, settles=False), HUNT)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_safety_does_not_rest_on(name: str, url: str) -> None:
    """Each costs calls or memory. No reader takes an answer that hangs on other stamps than those that it has seen.

    Who finishes without comparing stores an answer with the stamps from before its call: one of them has died, and so
    it is dead from its first moment. Who leads no more, or beside others, has stamps of its own in its answer.
    """
    world, *changes = HARMLESS[name]
    with made(changes):
        run(a_machine(RedisMachine, world, url=url, settles=False), settings(SOME, max_examples=50 * TIMES))
