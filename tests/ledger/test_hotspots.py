"""What costs most: by real calls, and as it is written."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

import aicache
from aicache.cache import get_cache
from aicache.core.tags import Tag, digest
from aicache.ledger import stats
from aicache.ledger.flusher import Flusher
from aicache.models import Hotspot
from aicache.tenants import tenant_digest
from aicache.testing import ClaudeServer, Reply
from tests.claude.conftest import QUESTION, Asker
from tests.claude.gating import at_once
from tests.claude.prompts import question, system
from tests.claude.together import until
from tests.ledger.conftest import ALIAS

pytestmark = pytest.mark.usefixtures("place", "flusher")


@pytest.fixture(autouse=True)
def _prices(claude: ClaudeServer) -> None:
    claude.answer = lambda received: Reply.text("yes", input_tokens=100, output_tokens=len(received.text))


def ask(asker: Asker, text: str = "prices?", **scope: Any) -> aicache.CallInfo:
    with aicache.scope(**{"tenant": "acme", **scope}) as calls:
        asker.create(messages=[{"role": "user", "content": text}])
    assert calls.last is not None
    return calls.last


def spots(flusher: Flusher, kind: str) -> list[Hotspot]:
    """As they are written, the dearest first."""
    flusher.close()
    return list(Hotspot.objects.using(ALIAS).filter(kind=kind).order_by("-nano_usd", "-times"))


def test_a_question_costs_what_each_of_its_answers_did(asker: Asker, flusher: Flusher) -> None:
    for _ in range(2):
        ask(asker, "a long question, that is answered at length " * 20)
    infos = [ask(asker, refresh=True) for _ in range(3)]
    ask(asker)  # a hit
    ask(asker, bypass=True)
    long, short = spots(flusher, "miss")

    assert (long.times, short.times) == (1, 3)
    assert long.nano_usd + short.nano_usd < round(stats.read(ALIAS).total.usd("spent") * 10**9)
    assert (short.key, short.label, short.tenant) == (infos[-1].key, QUESTION["model"], "acme")
    assert (short.owner, short.span) == (tenant_digest("acme"), 3600)
    assert long.key != short.key


def test_each_tenants_question_is_its_own(asker: Asker, flusher: Flusher) -> None:
    for tenant in ("acme", "globex", aicache.GLOBAL):
        ask(asker, tenant=tenant)
    found = spots(flusher, "miss")
    assert {(spot.tenant, spot.everybody, spot.times) for spot in found} == {
        ("acme", False, 1),
        ("globex", False, 1),
        ("", True, 1),
    }
    assert len({spot.nano_usd for spot in found}) == 1


def test_a_question_whose_price_is_not_known_is_none(asker: Asker, claude: ClaudeServer, flusher: Flusher) -> None:
    claude.answer = lambda _: Reply.text("yes", model="claude-of-the-far-future")
    ask(asker)
    with aicache.scope(tenant="acme"):
        aicache.remember({"n": 1}, lambda: 5)
    assert spots(flusher, "miss") == []


def test_a_tag_costs_the_answers_that_its_death_blocked(asker: Asker, flusher: Flusher) -> None:
    with override_settings(AICACHE={**settings.AICACHE, "DURABLE": False}):
        for _ in range(2):
            for text in ("prices?", "hours?"):
                ask(asker, text, tags=["shop"])
            get_cache().store.stamp([Tag("shop", tenant_digest("acme"))])
        ask(asker, tags=["shop"])
    (found,) = spots(flusher, "tag")
    assert (found.label, found.times, found.digest) == ("shop", 3, digest("tag", "shop"))
    assert found.nano_usd > 0
    assert stats.read(ALIAS).tenants["acme"]["stale_blocked"] == 3


def test_a_prefix_costs_what_was_written_of_it_again(asker: Asker, claude: ClaudeServer, flusher: Flusher) -> None:
    claude.reset()
    claude.latency = 0.3
    prefix = system()
    with aicache.scope(tenant="acme"):
        at_once(asker, [question(f"{at}", system=prefix) for at in range(4)])
    (found,) = spots(flusher, "prefix")
    figures = stats.read(ALIAS).tenants["acme"]
    assert found.times == figures["redundant_writes"] == 3
    assert found.nano_usd == figures["redundant_nano_usd"] > 0
    assert found.label == f"{QUESTION['model']} · {figures['redundant_tokens'] // 3}"


def test_they_are_written_while_a_process_is_at_work(
    asker: Asker, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicache.ledger.flusher.NOTES_EVERY", 0.1)
    for number, text in enumerate(("prices?", "hours?"), 1):
        ask(asker, text)
        until(lambda at=number: Hotspot.objects.using(ALIAS).count() == at, "it is not written")  # type: ignore[misc]
