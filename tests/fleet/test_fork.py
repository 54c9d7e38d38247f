"""Prefork servers: a child starts anew and leaves its parent's connections alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

import aicache
from aicache.testing import ClaudeServer
from tests.claude.conftest import QUESTION
from tests.claude.together import in_threads

# The test runner has threads of its own, which a child of it does not use.
pytestmark = [
    pytest.mark.usefixtures("aicache_isolated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(act: Callable[[], None]) -> int:
    """The exit code of a forked child that runs ``act``: 0 if nothing was raised."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException:  # noqa: BLE001 - the parent's test must not go on in the child
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_and_its_parent_both_go_on(claude: ClaudeServer) -> None:
    def ask(**changes: Any) -> str:
        with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme"):
            return aicache.info(aicache.wrap(plain).messages.create(**{**QUESTION, **changes})).status

    def child() -> None:
        assert ask() == "hit"
        assert ask(system="Be brief.") == "miss"

    assert ask() == "miss"
    assert in_child(child) == 0
    assert ask() == "hit"
    assert ask(system="Be brief.") == "hit"


def test_a_child_renews_its_leases_and_hears_its_news(claude: ClaudeServer) -> None:
    claude.latency = 0.3

    def many() -> None:
        with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme") as calls:
            client = aicache.wrap(plain)
            results = in_threads(10, lambda _: client.messages.create(**{**QUESTION, "system": str(os.getpid())}))
        assert not [result for result in results if isinstance(result, Exception)]
        assert sorted(call.status for call in calls) == ["coalesced"] * 9 + ["miss"]

    many()
    assert in_child(many) == 0
    assert claude.count == 2
