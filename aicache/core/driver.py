"""Runs a flow to its end: each operation that it yields is performed, and what comes of it sent, or thrown, back in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aicache.core.operations import Flow


def drive(flow: Flow, perform: Callable[[Any], Any]) -> Any:
    """What the flow returns. Raises what it raises."""
    try:
        operation = next(flow)
        while True:
            try:
                result = perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value


async def adrive(flow: Flow, perform: Callable[[Any], Awaitable[Any]]) -> Any:
    """As ``drive``, where what is performed is awaited."""
    try:
        operation = next(flow)
        while True:
            try:
                result = await perform(operation)
            except BaseException as error:  # noqa: BLE001 - the flow decides, and raises it again
                operation = flow.throw(error)
            else:
                operation = flow.send(result)
    except StopIteration as end:
        return end.value
