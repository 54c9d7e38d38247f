"""Questions whose answers hang on tags, and what a flow does with them, step by step."""

from __future__ import annotations

import hashlib
from typing import Any

from aicache.core.operations import Capture, Finish, Lead, Look, Seen
from aicache.core.records import Ask, Entry, Stamps
from aicache.core.tags import Tag, hanging
from aicache.core.turns import Led
from tests.store.conftest import an_ask, an_entry

TENANT = "7" * 32
NAMES = ("article:17", "prices")
ARTICLE, PRICES = (Tag(name, TENANT) for name in NAMES)


def question(words: str = "How do I get a refund?", **changes: Any) -> Ask:
    """Another one for other words, of the same tags."""
    digest = hashlib.sha256(words.encode()).hexdigest()
    tags = hanging(NAMES, TENANT)
    return an_ask(**{"key": digest, "lineage": digest, "tenant": TENANT, "tags": tags, **changes})


def lead(store: Any, ask: Ask, stamps: Stamps | None = None) -> tuple[Stamps, str]:
    """The stamps taken, and the token of who leads."""
    stamps = store.perform(Capture(ask)) if stamps is None else stamps
    turn = store.perform(Lead(ask, stamps, since=0, refresh=True))
    assert isinstance(turn, Led)
    return stamps, turn.token


def end(store: Any, ask: Ask, stamps: Stamps, token: str, body: bytes = b"{}", life: float = 60.0) -> bool:
    entry = an_entry(ask, body, life, stamps=stamps)
    kept: bool = store.perform(Finish(ask, stamps, token, entry=entry, keep=True, share=True))
    return kept


def keep(store: Any, ask: Ask, body: bytes = b"{}", life: float = 60.0) -> Entry:
    """Its answer is made and kept."""
    stamps, token = lead(store, ask)
    assert end(store, ask, stamps, token, body, life)
    return found(store, ask)


def look(store: Any, ask: Ask) -> Seen:
    seen: Seen = store.perform(Look(ask))
    return seen


def found(store: Any, ask: Ask) -> Entry:
    entry = look(store, ask).entry
    assert entry is not None
    return entry


def reason(store: Any, ask: Ask) -> str:
    seen = look(store, ask)
    assert seen.entry is None
    return seen.reason
