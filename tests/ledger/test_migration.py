"""What was counted before figures were told apart by model and policy is there afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.test import override_settings

from aicache.ledger import stats
from aicache.ledger.compaction import compact
from aicache.ledger.counts import MINUTE
from aicache.tenants import tenant_digest
from tests.ledger.books import of_all, of_owners
from tests.places import ON

ALIAS = "before"
HOUR = 60 * MINUTE
NOW = int(time.time()) // HOUR * HOUR


@pytest.fixture(params=ON)
def before(request: Any, tmp_path: Path, django_db_blocker: Any, aicache_isolated: None) -> Iterator[Any]:
    """The models as they were, in a database as it was."""
    with request.param(tmp_path) as configuration, django_db_blocker.unblock():
        connections.databases[ALIAS] = {**connections.databases["default"], **configuration}
        try:
            call_command("migrate", "aicache", "0003_prompt_counts", database=ALIAS, verbosity=0)
            executor = MigrationExecutor(connections[ALIAS])
            with override_settings(AICACHE={"DATABASE": ALIAS}):
                yield executor.loader.project_state([("aicache", "0003_prompt_counts")]).apps
        finally:
            connections[ALIAS].close()
            del connections.databases[ALIAS]
            del connections[ALIAS]


def test_counts_are_the_same_after_it_and_are_rolled_up(before: Any) -> None:
    calls, prompts = (before.get_model("aicache", name).objects.using(ALIAS) for name in ("CallCount", "PromptCount"))
    for process in ("", "a" * 32, "b" * 32):  # "" are hours
        for ago in (0, 3, 90):
            start = NOW - ago * HOUR
            for tenant in ("acme", "globex"):
                place = {"process": process, "minute": start, "owner": tenant_digest(tenant), "tenant": tenant}
                calls.create(**place, hit=5, miss=2, error=-1, saved_nano_usd=10**9, unpriced=3)
                prompts.create(**place, model="large", reads=7, waits=2, waited_ms=40, unpriced=1, gate_nano_usd=-5)
    call_command("migrate", "aicache", database=ALIAS, verbosity=0)

    def told() -> dict[str, Any]:
        found = stats.read(ALIAS)
        acme = found.tenants["acme"]
        names = ("hit", "miss", "error", "saved_nano_usd", "unpriced")
        own = ("reads", "gate_waits", "gate_waited_ms", "unpriced_prompts", "gate_nano_usd")
        large = found.prompts["acme"]["large"]
        return {**{name: acme[name] for name in names}, **{name: large[name] for name in own}}

    expected = {
        **{"hit": 45, "miss": 18, "error": -9, "saved_nano_usd": 9 * 10**9, "unpriced": 27},
        **{"reads": 63, "gate_waits": 18, "gate_waited_ms": 360, "unpriced_prompts": 9, "gate_nano_usd": -45},
    }
    assert told() == expected
    assert compact() > 0
    assert told() == expected
    assert of_all(ALIAS) == of_owners(ALIAS)
