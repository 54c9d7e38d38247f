"""Mistakes, made in the product's own text: what is written there, and what is written instead."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from aicache.store import scripts


class Change:
    """``old``, which is there once, becomes ``new``: in a function of a module or class, or in a script."""

    def __init__(self, where: Any, name: str, old: str, new: str) -> None:
        self._where, self._name, self._old, self._new = where, name, old, new

    @contextmanager
    def made(self) -> Iterator[None]:
        found = inspect.getattr_static(self._where, self._name)
        with ExitStack() as stack:
            if isinstance(found, scripts.Script):
                text = self._written(found.text)
                stack.enter_context(mock.patch.object(found, "text", text))
                digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
                stack.enter_context(mock.patch.object(found, "digest", digest))
            else:
                stack.enter_context(mock.patch.object(self._where, self._name, self._compiled(found)))
            yield

    def _written(self, text: str) -> str:
        if text.count(self._old) != 1:
            raise LookupError(f"{self._name} does not say {self._old!r} once any more: write the mutant anew")
        return text.replace(self._old, self._new)

    def _compiled(self, found: Any) -> Any:
        function = found.fget if isinstance(found, property) else found
        text = self._written(textwrap.dedent(inspect.getsource(function)))
        made: dict[str, Any] = {}
        source = "from __future__ import annotations\n" + text
        exec(compile(source, f"<mutant of {self._name}>", "exec"), function.__globals__, made)
        return made[self._name]


@contextmanager
def made(changes: Sequence[Change]) -> Iterator[None]:
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change.made())
        yield
