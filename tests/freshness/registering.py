"""Models that are registered for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aicache.freshness import family, registry


@contextmanager
def registering() -> Iterator[Callable[..., Any]]:
    """Yields ``register``; afterwards all is as it was, also what was registered otherwise before."""
    declared, known = dict(family._declared), dict(family._registered)
    yield registry.register
    for now, before in ((family._declared, declared), (family._registered, known)):
        now.clear()
        now.update(before)
    family._kin.clear()
