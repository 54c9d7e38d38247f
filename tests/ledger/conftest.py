from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from aicache.ledger.counting import get_flusher
from aicache.ledger.flusher import Flusher
from tests.claude.conftest import asker
from tests.freshness.tables import database
from tests.places import ON

__all__ = ["asker"]

ALIAS = "ledger"


@pytest.fixture
def flusher(aicache_isolated: None) -> Flusher:
    """That of this test: nothing has been counted yet."""
    return get_flusher()


@pytest.fixture(params=ON)
def place(request: Any, tmp_path: Path, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """A database that other processes can read, as the one of this site. Yields its configuration."""
    with ExitStack() as stack:
        configuration = stack.enter_context(request.param(tmp_path))
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(database(ALIAS, **configuration))
        stack.enter_context(override_settings(AICACHE={"DATABASE": ALIAS}))
        yield configuration
