"""How often a tag has been invalidated: what the database knows when Redis knows nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from django.db import connections

from aicache.freshness import databases


class Digested(Protocol):
    @property
    def digest(self) -> str: ...


def generations(tags: Sequence[Digested], among: Iterable[str] | None = None) -> tuple[int, ...]:
    """In the order of the tags; each only ever grows. One query for each database, on this thread's connection.

    ``among``: the databases to ask, or all that there are. What an open transaction of this connection has not
    committed is counted too. Raises what the databases do.
    """
    if not tags:
        return ()
    digests = sorted({tag.digest for tag in tags})
    found: Counter[str] = Counter()
    for alias in databases.everywhere() if among is None else among:
        connection = connections[alias]
        with connection.cursor() as cursor:
            cursor.execute(_statement(connection, len(digests)), digests * 2)
            for digest, number in cursor.fetchall():
                found[digest] += number
    return tuple(found[tag.digest] for tag in tags)


def _statement(connection: Any, number: int) -> str:
    """The one statement sees both tables at the same moment, or what is compacted in between counts twice or never.

    Each strict call runs it, and the ORM takes as long to spell it as a database on the same machine to answer it.
    """
    from aicache.models import Invalidation, InvalidationTag

    names = Invalidation._meta.db_table, InvalidationTag._meta.db_table, "digest", "compacted"
    rows, base, digest, compacted = map(connection.ops.quote_name, names)
    those = f"{digest} IN ({', '.join(['%s'] * number)})"
    return (
        f"SELECT {digest}, COUNT(*) FROM {rows} WHERE {those} GROUP BY {digest}"  # noqa: S608 - names of ours
        f" UNION ALL SELECT {digest}, {compacted} FROM {base} WHERE {those} AND {compacted} > 0"
    )
