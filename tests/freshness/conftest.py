from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aicache import apps, freshness
from aicache.freshness import databases, stamps
from tests.freshness.recorder import Recorder
from tests.freshness.registering import registering


@pytest.fixture(autouse=True)
def store() -> Iterator[Recorder]:
    recorder = Recorder()
    freshness.start(lambda: recorder)
    databases._migrated.clear()
    yield recorder
    databases._migrated.clear()
    stamps._changed("")
    freshness.start(apps._store)


@pytest.fixture
def registered() -> Iterator[Callable[..., Any]]:
    """Registers for one test, also what was registered otherwise."""
    with registering() as register:
        yield register


@pytest.fixture
def heard() -> Iterator[Callable[..., None]]:
    """Connects a receiver for one test."""
    connected: list[tuple[Any, Any]] = []

    def hear(signal: Any, receiver: Any) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield hear
    for signal, receiver in connected:
        signal.disconnect(receiver)
