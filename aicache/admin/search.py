"""Entries found by a part of what is known of them; each word, of many the first MOST, must be found somewhere."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any, Final

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.text import smart_split, unescape_string_literal

FIELDS: Final = ("key", "tenant", "model", "tags", "request")
KEY: Final = re.compile(r"[0-9a-f]{64}")
MOST: Final = 50
"""Words that are looked for: each takes a look at every row, and SQLite takes no more than 1000 conditions."""


def entries(rows: QuerySet[Any], asked: str, *, words: bool) -> QuerySet[Any]:
    """By a whole key at once, through its index; by anything else as long as it takes to read the table.

    ``words``: by those of requests too.
    """
    if KEY.fullmatch(asked.strip()):
        return rows.filter(key=asked.strip())
    rows = rows.annotate(tagged=Cast("tags", TextField()))
    several = islice(dict.fromkeys(smart_split(asked)), MOST)
    return rows.filter(*(_somewhere(_unquoted(word), words) for word in several))


def _somewhere(word: str, words: bool) -> Q:
    # SQLite keeps JSON as it was written, PostgreSQL as the text that it stands for.
    as_text, as_written = json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1]
    found = Q(tagged__icontains=as_text) | Q(tagged__icontains=as_written)
    if words:
        found |= Q(request__icontains=as_text)
    for field in ("key", "tenant", "model"):
        found |= Q(**{f"{field}__icontains": word})
    return found


def _unquoted(word: str) -> str:
    quoted = word[:1] in ("'", '"') and word[:1] == word[-1:]
    try:
        return unescape_string_literal(word) if quoted else word
    except ValueError:
        return word
