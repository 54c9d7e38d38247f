"""A server and real SDK clients for it."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from aicache.testing import ClaudeServer


@pytest.fixture
def claude() -> Iterator[ClaudeServer]:
    with ClaudeServer() as server:
        yield server


@pytest.fixture
def client(claude: ClaudeServer) -> Iterator[anthropic.Anthropic]:
    """It does not retry, so that each call is one request."""
    with anthropic.Anthropic(base_url=claude.url, api_key="test", max_retries=0) as sdk:
        yield sdk
