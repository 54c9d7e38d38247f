"""An answer that one policy kept, and readers with another: the policy is not in the key."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

import aicache
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import Asker
from tests.claude.together import held, in_threads, until

POLICIES = {
    "lax": {"store_tool_use": True, "store_truncated": True, "store_refusals": True, "allow_external_state": True},
    "brief": {"ttl": 0.05},
    "stale": {"ttl": 0.05, "stale_while_revalidate": 60},
    "never": {"ttl": 0},
}


@pytest.fixture(autouse=True)
def _policies(aicache_isolated: None) -> Iterator[None]:
    with override_settings(AICACHE={"POLICIES": POLICIES, "NAMESPACE": uuid.uuid4().hex}):
        yield


def ask(asker: Asker, *policies: str) -> list[tuple[str, str]]:
    with aicache.scope(tenant="acme") as calls:
        for policy in policies:
            with aicache.scope(policy=policy):
                asker.create()
    return [(call.status, call.reason) for call in calls]


TOOL = Reply.tool_use("refund", {"order": 1})
TRUNCATED = Reply.text("half an ans", stop_reason="max_tokens")
REFUSED = Reply.text("no", stop_reason="refusal")
SEARCHED = Reply.blocks([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (TOOL, "stop_reason:tool_use"),
        (TRUNCATED, "stop_reason:max_tokens"),
        (REFUSED, "stop_reason:refusal"),
        (SEARCHED, "server_tool"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_readers_policy_would_not_keep_it_does_not_get(
    asker: Asker, claude: ClaudeServer, reply: Reply, reason: str
) -> None:
    claude.answer = lambda _: reply

    assert ask(asker, "lax", "default", "lax") == [("miss", "new"), ("miss", reason), ("hit", "")]


def test_a_good_answer_is_everybodys_whoever_kept_it(asker: Asker) -> None:
    assert ask(asker, "lax", "default", "chat") == [("miss", "new"), ("hit", ""), ("hit", "")]


def test_an_answer_older_than_its_reader_likes_is_asked_for_anew_and_then_kept_as_the_reader_says(
    asker: Asker,
) -> None:
    assert ask(asker, "static") == [("miss", "new")]
    time.sleep(0.06)
    assert ask(asker, "retry", "brief") == [("hit", ""), ("miss", "policy")]
    time.sleep(0.06)
    assert ask(asker, "static") == [("miss", "expired")]


def test_a_reader_is_told_how_long_the_answer_is_fresh_for_it(asker: Asker) -> None:
    with aicache.scope(tenant="acme") as calls:
        for policy in ("batch", "chat", "static"):
            with aicache.scope(policy=policy):
                asker.create()

    _, chat, static = (call.expires_in or 0 for call in calls)
    assert 0.95 * 300 - 10 < chat <= 300
    assert 0.95 * 86_400 - 10 < static <= 86_400  # a reader with more patience lengthens nothing


def test_a_stale_answer_is_for_those_only_whose_policy_has_a_stale_window(asker: Asker) -> None:
    ask(asker, "stale")
    time.sleep(0.06)

    assert ask(asker, "default") == [("miss", "policy")]


def test_a_reader_that_wants_nothing_kept_gets_nothing_kept(asker: Asker) -> None:
    assert ask(asker, "default", "never") == [("miss", "new"), ("miss", "no_ttl")]


@pytest.mark.parametrize(("reply", "coalesced"), [(TOOL, 0), (TRUNCATED, 4)], ids=["tool_use", "truncated"])
def test_who_waits_gets_what_its_own_policy_would_share(
    asker: Asker, claude: ClaudeServer, reply: Reply, coalesced: int
) -> None:
    claude.answer = lambda _: reply

    def one(at: int) -> Any:
        if at:
            until(lambda: claude.count, "the lax one does not lead")
        with aicache.scope(policy="default" if at else "lax"):
            return asker.create()

    with aicache.scope(tenant="acme") as calls, held(claude, (1, 4)):
        in_threads(5, one)

    assert [call.status for call in calls].count("coalesced") == coalesced
    assert [call.reason for call in calls].count("not_shared") == 4 - coalesced
    assert claude.count == 5 - coalesced
