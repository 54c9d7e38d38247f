"""Pytest fixtures for sites that use aicache; installed with the package, used by naming them.

``claude``: a stand-in for the Claude API, fresh for each test. ``aicache_isolated``: an empty cache for each test, also
under xdist on a shared server. ``aicache_memory``: a cache without any server. ``aicache_commits``: ``on_commit`` hooks
run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from aicache.testing.claude import ClaudeServer
from aicache.testing.isolation import committing, isolated, memory
from aicache.testing.memory import MemoryStore

QUIET: Final = 10.0  # seconds to wait at most for calls that earlier tests left behind


@pytest.fixture(scope="session")
def claude_server() -> Iterator[ClaudeServer]:
    with ClaudeServer() as server:
        yield server


@pytest.fixture
def claude(claude_server: ClaudeServer) -> ClaudeServer:
    """The session's stand-in server, with nothing in it of earlier tests. Give its ``url`` to the client."""
    deadline = time.monotonic() + QUIET
    while claude_server.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)  # what an earlier test gave up on is still being answered, and would be counted here
    claude_server.reset()
    return claude_server


@pytest.fixture
def aicache_isolated() -> Iterator[None]:
    """Nothing that another test or another worker stored is seen, nor what earlier runs left."""
    with isolated():
        yield


@pytest.fixture
def aicache_memory() -> Iterator[MemoryStore]:
    """The cache's state is in this process's memory and gone after the test; ``.down = True`` plays an outage."""
    with memory() as store:
        yield store


@pytest.fixture
def aicache_commits(db: None) -> Iterator[None]:
    """``on_commit`` hooks run where they would in production, inside the transaction that the test is wrapped in."""
    with committing():
        yield
