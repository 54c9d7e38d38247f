from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no database that hangs, except where a test is about just that."""
    if "impatient" not in request.keywords:
        monkeypatch.setattr("aicache.cache.BUDGET", 30.0)
