"""Runs a flow: each operation that it yields is performed, and what comes of it sent, or thrown, back in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aicache.core.operations import Flow, Operation
from aicache.core.streaming import Begin, Give, Pull, Tail

HANDED: Final = (Begin, Give)
# What may take as long as upstream does.
SLOW: Final = (Pull, Tail)


def is_handed(operation: Operation) -> bool:
    return isinstance(operation, HANDED)


def drive(
    flow: Flow,
    perform: Callable[[Any], Any],
    resume: Callable[[], Operation] | None = None,
    *,
    stops: Callable[[Operation], bool] = is_handed,
) -> Any:
    """What the flow returns, or the first operation that it comes to at which one ``stops``. Raises what it raises.

    ``resume``: gives the operation to go on with.
    """
    try:
        operation = next(flow) if resume is None else resume()
        while not stops(operation):
            try:
                result = perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value
    return operation


async def adrive(
    flow: Flow,
    perform: Callable[[Any], Awaitable[Any]],
    resume: Callable[[], Operation] | None = None,
    *,
    stops: Callable[[Operation], bool] = is_handed,
) -> Any:
    """As ``drive``, where what is performed is awaited."""
    try:
        operation = next(flow) if resume is None else resume()
        while not stops(operation):
            try:
                result = await perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value
    return operation
