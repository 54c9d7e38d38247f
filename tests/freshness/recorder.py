"""A store that only remembers which stamps were drawn."""

from __future__ import annotations

import threading
from collections.abc import Collection

from aicache.core.operations import Unavailable
from aicache.core.tags import EVERYBODY, Tag
from aicache.tenants import tenant_digest


class Recorder:
    def __init__(self) -> None:
        self.down = False
        self.error: BaseException | None = None
        self.stamped: list[list[Tag]] = []
        self._lock = threading.Lock()

    def stamp(self, tags: Collection[Tag]) -> None:
        if self.down:
            raise Unavailable("unreachable")
        if self.error is not None:
            raise self.error
        with self._lock:
            self.stamped.append(list(tags))

    @property
    def tags(self) -> set[Tag]:
        return {tag for tags in self.stamped for tag in tags}

    def taken(self) -> set[Tag]:
        tags = self.tags
        self.stamped.clear()
        return tags


def tags(*names: str, tenant: object = None) -> set[Tag]:
    whose = EVERYBODY if tenant is None else tenant_digest(str(tenant))
    return {Tag(name, whose) for name in names}
