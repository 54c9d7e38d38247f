"""Copies of answers: what Redis has lost and still lives is put back from here.

A copy carries how often the database had seen each of its tags invalidated before upstream was called. Under other
counts it is dead, for ever: they only grow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from aicache.core.lineage import Lineage, before, missed
from aicache.core.operations import Recalled
from aicache.core.records import Ask, Before, Entry
from aicache.core.tags import EVERYBODY, place
from aicache.durable.rows import LONGEST, moment
from aicache.durable.writer import Writer
from aicache.freshness.generations import generations
from aicache.freshness.outbox import storable
from aicache.sqlite import insert
from aicache.store.payload import Unreadable, answers, pack_entry, read_entry


class Copies:
    """Of one site, in one database. Safe for threads; ``writer`` is the process's."""

    def __init__(self, site: str, using: str, writer: Writer) -> None:
        self.site = site
        self.using = using
        self._writer = writer

    def keep(self, ask: Ask, entry: Entry) -> None:
        """Has the copy written, in its turn. Raises nothing; what cannot be written is told, and lost."""
        self._writer.put(self._digest(ask), entry, partial(self._write, ask, entry), using=self.using)

    def recall(self, ask: Ask, *, copy: bool) -> Recalled:
        """On a connection of one's own. Raises what the database does."""
        # The row comes first: what dies between the two is then counted, and the copy dead.
        found, last = self._found(ask) if copy else (None, None)
        counted = generations(ask.counted)
        if found is None:
            reason, stood = _why(ask, last, purged=counted[-1] > 0) if copy else ("", None)
            return Recalled(counted, reason=reason, before=stood)
        try:
            entry = found if isinstance(found, Entry) else read_entry(found)
        except Unreadable:
            return Recalled(counted)
        if not answers(entry, ask) or entry.stamps.generations is None:
            return Recalled(counted)
        if (tag := entry.stamps.outrun(ask.counted, counted)) is not None:
            return _dead(counted, f"invalidated:{tag}", entry)
        if len(entry.stamps.generations) != len(counted) or entry.dies_at <= time.time():
            return _dead(counted, "expired", entry)
        return Recalled(counted, entry)

    def _found(self, ask: Ask) -> tuple[Entry | bytes | None, Lineage | None]:
        """The copy, which this process may not have written yet; else what was last kept for the question, under
        another key. Mostly there is one or none: one query."""
        from aicache.models import CacheEntry

        digest = self._digest(ask)
        if (waiting := self._writer.waiting(digest)) is not None:
            return waiting, None
        kept = CacheEntry.objects.using(self.using)
        rows = kept.filter(question=place("question", self.site, ask.tenant, ask.lineage)).order_by("-created_at")
        last = rows.values_list("digest", "key", "sources", "payload", "expires_at").first()
        if last is None:
            return None, None
        if last[0] == digest:
            return bytes(last[3]), None
        found: Any = kept.filter(digest=digest).values_list("payload", flat=True).first()
        sources = tuple((label, version) for label, version in last[2])
        lineage = Lineage(last[1], last[4].timestamp(), sources=sources)
        return (None if found is None else bytes(found)), lineage

    def _digest(self, ask: Ask) -> str:
        return place("entry", self.site, ask.tenant, ask.key)

    def _write(self, ask: Ask, entry: Entry) -> None:
        _upsert(self.using, self._digest(ask), self._fields(ask, entry))

    def _fields(self, ask: Ask, entry: Entry) -> dict[str, Any]:
        answer = entry.answer
        return {
            "question": place("question", self.site, ask.tenant, ask.lineage),
            "lineage": ask.lineage,
            "key": ask.key,
            "owner": ask.tenant,
            "tenant": storable(ask.owner, LONGEST),
            "everybody": ask.tenant == EVERYBODY,
            "model": storable(ask.model, LONGEST),
            "policy": storable(ask.policy.name, LONGEST),
            "tags": sorted({storable(tag.name, LONGEST) for tag in ask.tags}),
            "sources": [[storable(label, LONGEST), storable(version, LONGEST)] for label, version in ask.sources],
            "tokens": answer.tokens,
            "cost_usd": answer.usd,
            "created_at": moment(entry.stored_at),
            "fresh_until": moment(entry.fresh_until),
            "expires_at": moment(entry.dies_at),
            "hits": 0,
            "hit_at": None,
            "payload": pack_entry(entry),
            "request": None if ask.body is None else json.dumps(ask.body, ensure_ascii=False, default=repr),
            "circumstances": _storable(ask.circumstances),
        }


def _dead(counted: tuple[int, ...], reason: str, entry: Entry) -> Recalled:
    return Recalled(counted, reason=reason, before=before(reason, entry.dies_at, time.time()))


def _storable(circumstances: Any) -> Any:
    """PostgreSQL takes no NUL, which a text of a site's may have."""
    if isinstance(circumstances, str):
        return storable(circumstances, len(circumstances))
    if isinstance(circumstances, list):
        return [_storable(each) for each in circumstances]
    if isinstance(circumstances, Mapping):
        return {name: _storable(value) for name, value in circumstances.items()}
    return circumstances


def _why(ask: Ask, last: Lineage | None, *, purged: bool) -> tuple[str, Before | None]:
    """Why there is no copy, as far as what was last kept for the question tells."""
    if last is None:
        return "invalidated:answer" if purged else "", None
    return missed(last, ask, time.time(), ())


def _upsert(using: str, digest: str, fields: dict[str, Any]) -> None:
    """Unless a newer one stands there. Mostly that is one statement that writes."""
    from aicache.models import CacheEntry

    insert(CacheEntry, [CacheEntry(digest=digest, **fields)], using)
    older = CacheEntry.objects.using(using).filter(digest=digest, created_at__lt=fields["created_at"])
    if older.exists():
        older.update(**fields)
