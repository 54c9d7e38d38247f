"""What an answer is kept under: what went into its key, as far as its row knows that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.joints import clauses
from aicache.core.tags import MEMBERS
from aicache.models import CacheEntry

LEFT_OUT: Final[dict[str, Promise]] = {
    "stream": gettext_lazy("how the answer travels, not what it says"),
    "metadata": gettext_lazy("who asks, for the provider's abuse statistics"),
    "diagnostics": gettext_lazy("asks for measurements beside the answer"),
    "cache_control": gettext_lazy("what the provider charges, not what it answers"),
}
"""Why each of ``core.fingerprint.BODY_NOISE`` is."""
MOST: Final = 5  # other answers to the same question
WIDTH: Final = 60  # characters of a value
FIELDS: Final = 100


@dataclass(frozen=True, slots=True)
class Field:
    """Of a request. ``why``: it is left out of the key."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Other:
    """Another answer to the same question, and why its key is another one."""

    pk: int
    key: str
    told: str


@dataclass(frozen=True, slots=True)
class Keyed:
    """``tags``: names as the site knows them. ``sources``: each with its version. ``scope``: what else it was asked
    with. ``fields``: those of the request that are in the key. Both where they are kept, and may be read."""

    question: str
    tags: list[str]
    sources: list[tuple[str, str]]
    scope: list[tuple[str, str]]
    fields: list[Field]
    left_out: list[Field]
    others: list[Other]


def keyed(row: CacheEntry, request: Any, rows: QuerySet[CacheEntry]) -> Keyed:
    """``request``: its body, None where that is not to be read. ``rows``: where others may be found."""
    given = list(request.items())[:FIELDS] if isinstance(request, dict) else []
    fields = [_field(name, value) for name, value in given]
    same = rows.filter(question=row.question, owner=row.owner).exclude(pk=row.pk).order_by("-pk")
    others = [
        Other(pk, key[:12], clauses(*_differences(row, tags, sources)))
        for pk, key, tags, sources in same.values_list("pk", "key", "tags", "sources")[:MOST]
    ]
    return Keyed(
        row.lineage[:12],
        named(row.tags),
        [(label, version) for label, version in row.sources],
        [] if request is None else list(_scope(row.circumstances or {})),
        [field for field in fields if not field.why],
        [field for field in fields if field.why],
        others,
    )


def named(tags: list[str]) -> list[str]:
    """Those that a site knows by their names: the members of a model die with its label's."""
    return [name for name in tags if not name.endswith(MEMBERS)]


def _scope(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if locale := given.get("locale"):
        yield _("Locale"), locale
    if vary := given.get("vary"):
        yield "vary", ", ".join(vary)
    if variant := given.get("variant"):
        yield "variant", str(variant)


def _field(name: str, value: Any) -> Field:
    try:
        text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    except RecursionError:
        text = "…"
    if len(text) > WIDTH:
        text = _("%(beginning)s… (%(number)d characters)") % {"beginning": text[:WIDTH], "number": len(text)}
    return Field(name[:WIDTH].encode(errors="replace").decode(), text, str(LEFT_OUT.get(name, "")))


def _differences(row: CacheEntry, tags: list[str], sources: Any) -> Iterator[str]:
    here, there = dict(row.sources), dict(sources)
    for label in sorted(here.keys() | there.keys()):
        if label in here and label in there and here[label] != there[label]:
            yield _("%(name)s: another version") % {"name": label}
    for mine, other in ((set(here), set(there)), (set(named(row.tags)), set(named(tags)))):
        yield from (_("%(name)s: only here") % {"name": name} for name in sorted(mine - other))
        yield from (_("%(name)s: only there") % {"name": name} for name in sorted(other - mine))
