"""What the database keeps of answers: copies for when Redis has lost them, and those that are pinned to a name.

Whoever has called hands its copy to a writer that nobody waits for. What a reader finds of all that were ever handed
over is any of them, or none: the writer may be late, in another order or killed, and a replica behind.
"""

from __future__ import annotations

from tests.protocol.state import Copy, Generations, Reader, State
from tests.protocol.world import Steps, World


def steps(state: State, world: World) -> Steps:
    """The writer's: it takes one only by mistake, where a copy is not whole when it is handed over."""
    for copy in state.database.copies:
        if copy.generations is None:
            now = generations(state, world)
            others = tuple(other for other in state.database.copies if other != copy)
            left = state._replace(database=state.database._replace(copies=others))
            yield (
                f"the writer writes the copy of version {copy.version}, under the generations of now",
                handed_over(left, copy.version, now),
            )


def generations(state: State, world: World) -> Generations:
    """One query, so one moment: the base and the rows that stand."""
    rows, folded = state.database.rows, state.database.folded
    each = tuple([rows[tag] + folded[tag] for tag in world.counted])
    return each[:1] if world.mistake == "unknown_database" else each


def handed_over(state: State, version: int, made_under: Generations | None) -> State:
    copies = {*state.database.copies, Copy(version, made_under)}
    in_order = tuple(sorted(copies, key=lambda copy: (copy.version, copy.generations or ())))
    return state._replace(database=state.database._replace(copies=in_order))


def found(state: State) -> tuple[Copy, ...]:
    return tuple([copy for copy in state.database.copies if copy.generations is not None])


def lives(copy: Copy, reader: Reader) -> bool:
    return copy.generations == reader.counted
