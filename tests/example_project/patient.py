"""The example project on a busy machine, where a moment's silence is no trouble of Redis's or of the database's."""

from __future__ import annotations

from aicache import cache
from aicache.store import clients, connections, line, tags
from example_project.settings import *  # noqa: F403

for module in (clients, connections, line, tags, cache):
    module.BUDGET = 5.0  # type: ignore[misc]
