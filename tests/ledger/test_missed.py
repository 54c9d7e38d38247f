"""A miss says what stood before it: an answer that had died, or one that had expired."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from django.test import override_settings

import aicache
from aicache.core.tags import of_answer
from aicache.ledger import counting, stats
from aicache.ledger.figures import LATE
from aicache.models import CacheEntry
from aicache.purge import Purge, carry_out_and_count
from aicache.testing import ClaudeServer, Reply
from aicache.testing.isolation import memory
from tests.claude.conftest import Asker
from tests.claude.together import held, together
from tests.durable.asking import flush
from tests.freshness.library.models import Article

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

TTL = 0.4
SHORT = {"ttl": TTL, "stale_while_revalidate": 0}
BEFORE = ("stale_blocked", "expired", *LATE)


@pytest.fixture
def durable() -> bool:
    return False


@pytest.fixture(autouse=True)
def _site(durable: bool) -> Iterator[None]:
    chosen = {"POLICIES": {"short": SHORT}, "NAMESPACE": uuid.uuid4().hex, "DURABLE": durable}
    with override_settings(AICACHE=chosen), counting.counts_of_its_own():
        yield


def ask(asker: Asker, **scope: Any) -> aicache.CallInfo:
    with aicache.scope(**{"tenant": "acme", **scope}) as calls:
        asker.create()
    assert calls.last is not None
    return calls.last


def told() -> dict[str, int]:
    """Those that are not 0."""
    figures = stats.unwritten().tenants["acme"]
    return {name: figures[name] for name in BEFORE if figures[name]}


def spots(kind: str) -> dict[str, int]:
    """How often, by label."""
    return {
        spot.label: spot.times
        for known in counting.get_flusher().counts._hotspots._known.values()
        for spot in known.values()
        if spot.kind == kind
    }


ALL_LATE = {"expired": 1, **dict.fromkeys(LATE, 1)}


def test_a_question_that_is_new_has_nothing_before_it(asker: Asker) -> None:
    assert ask(asker, tags=["prices"]).reason == "new"
    assert told() == {}


def test_an_answer_whose_tag_was_purged_would_have_been_stale(asker: Asker) -> None:
    ask(asker, tags=["prices", "hours"])
    aicache.invalidate("hours", tenant="acme")
    assert ask(asker, tags=["prices", "hours"]).reason == "invalidated:hours"
    assert told() == {"stale_blocked": 1}
    assert spots("tag") == {"hours": 1}


def test_an_answer_whose_source_was_saved_would_have_been_stale(asker: Asker) -> None:
    article = Article.objects.create(title="Refunds")
    ask(asker, sources=[article])
    article.body = "within 14 days"
    article.save()
    name = f"library.article:{article.pk}"
    assert ask(asker, sources=[article]).reason in (f"source_changed:{name}", f"invalidated:{name}")
    assert told() == {"stale_blocked": 1}
    assert spots("tag") == {name: 1}


def test_an_answer_whose_source_was_changed_behind_the_signals_too(asker: Asker) -> None:
    article = Article.objects.create(title="Refunds")
    ask(asker, sources=[article])
    Article.objects.update(body="within 30 days")
    article.refresh_from_db()
    assert ask(asker, sources=[article]).reason == f"source_changed:library.article:{article.pk}"
    assert told() == {"stale_blocked": 1}


def test_an_answer_that_had_only_expired_had_too_short_a_life(asker: Asker) -> None:
    ask(asker, tags=["prices"], policy="short")
    time.sleep(TTL)
    assert ask(asker, tags=["prices"], policy="short").reason == "expired"
    assert told() == ALL_LATE
    assert spots("tag") == {}
    figures = stats.unwritten().tenants["acme"]
    assert figures.usd("expired") == figures.usd("spent") / 2 > 0


@pytest.mark.parametrize("dies_first", [False, True])
def test_an_answer_that_died_and_expired_was_neither_stale_nor_too_short_lived(asker: Asker, dies_first: bool) -> None:
    ask(asker, tags=["prices"], policy="short")
    for act in (lambda: aicache.invalidate("prices", tenant="acme"), lambda: time.sleep(TTL))[
        :: 1 if dies_first else -1
    ]:
        act()
    assert ask(asker, tags=["prices"], policy="short").reason == "invalidated:prices"
    assert told() == {}


def test_an_answer_that_was_evicted_is_no_matter_of_freshness(asker: Asker, claude: ClaudeServer) -> None:
    ask(asker, tags=["prices"])
    flush()
    assert ask(asker, tags=["prices"]).reason == "new"
    assert told() == {}


def test_who_asks_with_other_tags_would_not_have_had_that_answer(asker: Asker) -> None:
    ask(asker, tags=["prices"], policy="short")
    time.sleep(TTL)
    assert ask(asker, tags=["hours"], policy="short").reason == "unknown"
    assert told() == {}


@pytest.mark.parametrize(
    "act", [lambda: aicache.invalidate("prices", tenant="acme"), lambda: time.sleep(TTL), lambda: None]
)
def test_who_wants_it_anew_would_not_have_had_it_either(asker: Asker, act: Callable[[], None]) -> None:
    ask(asker, tags=["prices"], policy="short")
    act()
    assert ask(asker, tags=["prices"], policy="short", refresh=True).reason == "refresh"
    assert told() == {}


def test_of_many_who_ask_at_once_one_misses(asker: Asker, claude: ClaudeServer) -> None:
    ask(asker, tags=["prices"])
    aicache.invalidate("prices", tenant="acme")
    with aicache.scope(tenant="acme", tags=["prices"]), held(claude, (1, 4)):
        together(asker, 5)
    assert told() == {"stale_blocked": 1}
    assert stats.unwritten().tenants["acme"]["coalesced"] == 4


def test_a_strict_reader_who_sees_in_the_database_that_it_died_counts_too(asker: Asker) -> None:
    with override_settings(
        AICACHE={"POLICIES": {"short": {"ttl": 60, "consistency": "strict"}}, "NAMESPACE": uuid.uuid4().hex}
    ):
        ask(asker, tags=["prices"], policy="short")
        aicache.invalidate("prices", tenant="acme")
        ask(asker, tags=["prices"], policy="short")
    assert told() == {"stale_blocked": 1}


class TestWhatRedisHasLost:
    """The database's copies know it, where they are kept."""

    @pytest.fixture
    def durable(self) -> bool:
        return True

    def test_an_answer_that_died_would_have_been_stale(self, asker: Asker) -> None:
        ask(asker, tags=["prices"])
        flush()
        aicache.invalidate("prices", tenant="acme")
        assert ask(asker, tags=["prices"]).reason == "invalidated:prices"
        assert told() == {"stale_blocked": 1}
        assert spots("tag") == {"prices": 1}

    def test_an_answer_that_had_expired_had_too_short_a_life(self, asker: Asker) -> None:
        ask(asker, tags=["prices"], policy="short")
        flush()
        time.sleep(TTL)
        assert ask(asker, tags=["prices"], policy="short").reason == "expired"
        assert told() == ALL_LATE

    def test_an_answer_whose_source_has_changed_would_have_been_stale(self, asker: Asker) -> None:
        article = Article.objects.create(title="Refunds")
        ask(asker, sources=[article])
        flush()
        Article.objects.update(body="within 30 days")
        article.refresh_from_db()
        assert ask(asker, sources=[article]).reason == f"source_changed:library.article:{article.pk}"
        assert told() == {"stale_blocked": 1}

    def test_a_single_answer_that_was_purged_would_have_been_stale(self, asker: Asker) -> None:
        key = ask(asker).key
        flush()
        entry = CacheEntry.objects.get(key=key)
        carry_out_and_count(Purge((of_answer(entry.lineage, key, entry.owner),), "acme"), cause="a test")
        assert ask(asker).reason == "invalidated:answer"
        assert told() == {"stale_blocked": 1}

    def test_an_answer_that_comes_back_from_there_is_a_hit(self, asker: Asker) -> None:
        ask(asker, tags=["prices"])
        flush()
        assert ask(asker, tags=["prices"]).status == "hit"
        assert told() == {}


def test_a_test_without_a_server_counts_likewise(claude: ClaudeServer) -> None:
    asker = Asker("sync", claude.url)
    with memory():
        for act in (lambda: None, lambda: aicache.invalidate("prices", tenant="acme"), lambda: time.sleep(TTL)):
            act()
            ask(asker, tags=["prices"], policy="short")
        assert told() == {"stale_blocked": 1, **ALL_LATE}


def test_an_answer_that_is_not_made_has_nothing_before_it(asker: Asker, claude: ClaudeServer) -> None:
    ask(asker, tags=["prices"])
    aicache.invalidate("prices", tenant="acme")
    claude.answer = lambda _: Reply.error(400)
    with pytest.raises(anthropic.BadRequestError):
        ask(asker, tags=["prices"])
    assert told() == {}
