"""What a list says of entries in a few words, however large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import BinaryField
from django.db.models.functions import Substr

from aicache.admin.glance import HEAD, Glance, first_words, glance
from aicache.models import CacheEntry
from aicache.store.payload import Unreadable


@dataclass(frozen=True, slots=True)
class Brief:
    """First words of both: "" where they are not to be read, or the request is not kept. ``glance``: None where the
    payload is unreadable."""

    question: str = ""
    answer: str = ""
    glance: Glance | None = None


def briefs(rows: Sequence[CacheEntry], *, words: bool) -> list[Brief]:
    """Of each row, in their order; ``words``: with those. One query, of beginnings alone."""
    if not rows:
        return []
    those = CacheEntry.objects.using(rows[0]._state.db).filter(pk__in=[row.pk for row in rows])
    asked = [Substr("request", 1, HEAD)] if words else []
    heads = those.values_list("pk", Substr("payload", 1, HEAD, output_field=BinaryField()), *asked)
    found = {pk: _brief(bytes(payload), *request) for pk, payload, *request in heads}
    return [found.get(row.pk, Brief()) for row in rows]


def seen(payload: bytes) -> Glance | None:
    try:
        return glance(payload)
    except Unreadable:
        return None


def _brief(payload: bytes, *requests: str | None) -> Brief:
    """Without a request, that of one who may not read."""
    found = seen(payload)
    if not requests:
        return Brief(glance=found)
    asked = "".join(filter(None, requests)).encode(errors="replace")
    return Brief(first_words(asked), first_words(found.answer) if found else "", found)
