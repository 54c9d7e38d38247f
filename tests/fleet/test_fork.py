"""Prefork servers: a child starts anew and leaves its parent's connections alone."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

import aicache
from aicache.testing import ClaudeServer, Reply
from aicache.testing.received import Received
from tests.claude.conftest import QUESTION
from tests.claude.together import PATIENCE, in_threads, until, waiting

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
    hears, says = os.pipe()  # what the child has seen, its parent does not see

    def all_wait() -> None:
        until(lambda: waiting() == 9, lambda: f"{waiting()} wait, and not 9")
        os.write(says, b".")

    def many() -> None:
        watcher = threading.Thread(target=all_wait)
        with anthropic.Anthropic(base_url=claude.url, api_key="k") as plain, aicache.scope(tenant="acme") as calls:
            client = aicache.wrap(plain)
            watcher.start()
            results = in_threads(10, lambda _: client.messages.create(**{**QUESTION, "system": str(os.getpid())}))
        watcher.join()
        assert not [result for result in results if isinstance(result, Exception)]
        assert sorted(call.status for call in calls) == ["coalesced"] * 9 + ["miss"]

    def answer(_: Received) -> Reply:
        assert select.select([hears], [], [], PATIENCE)[0], "the others do not come to wait"
        os.read(hears, 1)
        return Reply.text("for all of them")

    claude.answer = answer
    many()
    assert in_child(many) == 0
    assert claude.count == 2
    os.close(hears)
    os.close(says)
