"""Rows as the app would have written them: answers that are kept, and idempotency keys."""

from __future__ import annotations

import hashlib
import json
import time
from decimal import Decimal
from itertools import count
from typing import Any

from aicache.conf import get_settings, site
from aicache.core.records import Answer, Entry, Stamps
from aicache.core.tags import EVERYBODY, hanging, members, of_answer, place
from aicache.durable.rows import moment
from aicache.freshness.generations import generations
from aicache.freshness.registry import is_label
from aicache.models import CacheEntry, IdempotencyKey
from aicache.store.payload import pack_entry
from aicache.tenants import GLOBAL, Tenant, shown, tenant_digest

_numbers = count(1)
HEADERS = (("request-id", "req_1"), ("content-type", "application/json"))


def message(*content: Any, **more: Any) -> dict[str, Any]:
    """As Claude would answer; a string stands for a block of text."""
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    usage = {"input_tokens": 12, "output_tokens": 34, "cache_creation": {"ephemeral_5m_input_tokens": 5}}
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": blocks, "usage": usage, **more}


def question(*asked: str, **more: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": text} for text in asked], **more}


def packed(body: Any, key: str, owner: str, tags: tuple[Any, ...], life: float) -> Entry:
    body = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    now = time.time()
    stamps = Stamps(tuple("s" * 24 for _ in tags[:-1]), generations(tags), "e" * 12)
    return Entry(key, owner, Answer(body, HEADERS), now, now + life / 2, now + life, stamps)


def kept(
    body: Any = None,
    *tags: str,
    tenant: Tenant = "acme",
    request: Any = None,
    life: float = 3600.0,
    usd: str | None = "0.0042",
    **more: Any,
) -> CacheEntry:
    """A copy of an answer, made now. ``tags``: as a site names them."""
    number = next(_numbers)
    key, lineage = (hashlib.sha256(f"{kind} {number}".encode()).hexdigest() for kind in ("key", "lineage"))
    owner = tenant_digest(tenant)
    names = {*tags, *(members(name) for name in tags if is_label(name))}
    entry = packed(
        message("Hello.") if body is None else body,
        key,
        owner,
        (*hanging(names, owner), of_answer(lineage, key, owner)),
        life,
    )
    row = CacheEntry(
        digest=place("entry", site(get_settings()), owner, key),
        question=place("question", site(get_settings()), owner, lineage),
        lineage=lineage,
        key=key,
        owner=owner,
        tenant=shown(tenant)[:255],
        everybody=owner == EVERYBODY,
        model="claude-sonnet-5",
        policy="default",
        tags=sorted(names),
        tokens=46,
        cost_usd=None if usd is None else Decimal(usd),
        created_at=moment(entry.stored_at),
        fresh_until=moment(entry.fresh_until),
        expires_at=moment(entry.dies_at),
        payload=pack_entry(entry),
        request=None if request is None else json.dumps(request, ensure_ascii=False),
    )
    for name, value in more.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    return row


def pinned(
    name: str, body: Any = None, *, tenant: Tenant = "acme", life: float = 3600.0, **more: Any
) -> IdempotencyKey:
    """An idempotency key, with the answer ``body`` if there is one."""
    owner, key = tenant_digest(tenant), "k" * 64
    now = time.time()
    row = IdempotencyKey(
        digest=place("idempotency", site(get_settings()), owner, name),
        name=name,
        owner=owner,
        tenant=shown(tenant),
        everybody=tenant is GLOBAL,
        model="claude-sonnet-5",
        question="q" * 64,
        created_at=moment(now),
        expires_at=moment(now + life),
    )
    if body is not None:
        row.answer, row.answered_at = key, moment(now)
        row.payload = pack_entry(packed(body, key, owner, (of_answer("q" * 64, key, owner),), life))
    for field, value in more.items():
        setattr(row, field, value)
    row.save(force_insert=True)
    return row
