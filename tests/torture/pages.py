"""The single answers that are made from a page, as the admin finds them: in the copies that are kept of them."""

from __future__ import annotations

from typing import Any

import aicache
from aicache.core.tags import Tag, of_answer
from aicache.durable import get_writer
from aicache.models import CacheEntry
from tests.torture.cells import Question
from tests.torture.reader import about, body


def answers(client: Any, questions: list[Question]) -> list[tuple[int, list[Tag]]]:
    """By cell. Each question is asked once, in both ways."""
    found = []
    for question in questions:
        (cell, *_) = question.cells
        if cell.kind != "page":
            continue
        with about(question) as calls:
            client.messages.create(**body(question))
            aicache.remember({"question": question.text}, dict)
        assert get_writer().flush(10)
        rows = CacheEntry.objects.filter(key__in=[info.key for info in calls])
        found.append((cell.number, [of_answer(row.lineage, row.key, row.owner) for row in rows]))
        assert len(found[-1][1]) == len(calls), f"of {question.text!r} no copies are kept"
    return found
