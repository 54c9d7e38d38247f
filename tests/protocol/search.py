"""All states that can be reached, breadth first, so that a counterexample is a shortest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol import copies, drain, reader, saver, server
from tests.protocol.promise import Stale
from tests.protocol.state import State, canonical
from tests.protocol.world import World


class Found(NamedTuple):
    states: int
    counterexample: tuple[str, ...] = ()


def steps(state: State, world: World) -> Iterator[tuple[str, State]]:
    yield from reader.steps(state, world)
    yield from saver.steps(state, world)
    yield from drain.steps(state, world)
    yield from server.steps(state, world)
    yield from copies.steps(state, world)


def search(world: World, sorts: bool = True) -> Found:
    """``sorts``: actors that are alike may change places. Not where the steps are to be read: names change too."""
    start = world.start()
    before: dict[State, tuple[State, str] | None] = {start: None}
    level = [start]
    while level:
        following = []
        for state in level:
            if not reader.expected(state):
                continue
            try:
                for said, after in steps(state, world):
                    after = canonical(after, sorts)
                    if after not in before:
                        before[after] = (state, said)
                        following.append(after)
            except Stale as stale:
                return Found(len(before), (*trail(before, state), f"STALE: {stale}"))
        level = following
    return Found(len(before))


def walk(world: World) -> Iterator[tuple[State, str, State]]:
    """Each step that is possible in ``world``."""
    seen, left = {world.start()}, [world.start()]
    while left:
        state = left.pop()
        for said, after in steps(state, world):
            after = canonical(after, sorts=True)
            yield state, said, after
            if after not in seen:
                seen.add(after)
                left.append(after)


def trail(before: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    said = []
    while (came := before[state]) is not None:
        state, step = came
        said.append(step)
    return said[::-1]
