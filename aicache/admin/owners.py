"""Whose a row is, in SQL: limited staff is shown the rows of its own tenants."""

from __future__ import annotations

from typing import Any, Final

from django.db import NotSupportedError
from django.db.models import CharField, F, Func, Q, QuerySet, Value
from django.db.models.functions import Length

from aicache.core.tags import EVERYBODY
from aicache.freshness.outbox import LONGEST_TEXT, storable
from aicache.models import Invalidation, InvalidationTag
from aicache.sight import Sight

BY_DIGEST: Final = (Invalidation, InvalidationTag)


class Digest(Func):
    """``core.tags.digest``, of two texts or more."""

    output_field = CharField()

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        raise NotSupportedError(f"whose rows may be seen cannot be told on {args[1].vendor}")

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        template = "SUBSTR(SHA256(%(expressions)s), 1, 32)"  # a function that Django brings
        return super().as_sql(compiler, connection, template=template, arg_joiner=" || CHAR(0) || ", **more)

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        # As bytes: no text of PostgreSQL's holds a NUL.
        template = "LEFT(ENCODE(SHA256(CONVERT_TO(%(expressions)s, 'UTF8')), 'hex'), 32)"
        joiner = ", 'UTF8') || '\\x00'::bytea || CONVERT_TO("
        return super().as_sql(compiler, connection, template=template, arg_joiner=joiner, **more)

    def as_mysql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        template = "LEFT(SHA2(CONCAT(%(expressions)s), 256), 32)"
        return super().as_sql(compiler, connection, template=template, arg_joiner=", CHAR(0), ", **more)


def theirs(rows: QuerySet[Any], sight: Sight) -> QuerySet[Any]:
    """Those of the rows that are in sight."""
    if sight.owners is None:
        return rows
    if not sight.owners:
        return rows.none()
    if rows.model in BY_DIGEST:
        return _by_digest(rows, sight)
    return rows.filter(owner__in=sight.owners)


def _by_digest(rows: QuerySet[Any], sight: Sight) -> QuerySet[Any]:
    """The digest of a row, which is that of its tag as its tenant's, decides. What else it says of the tenant narrows
    the search: its name may be missing or cut, and a database may take two names for the same one.

    A row that proves its own name is asked for that alone; each other one is tried with each of the owners.
    """
    owners = sorted(sight.owners or ())
    names = {storable(tenant, LONGEST_TEXT) for tenant in sight.tenants if isinstance(tenant, str)}
    named: QuerySet[Any] = rows.alias(
        named=Digest(Value("tenant"), F("tenant")),
        proof=Digest(Value("tag"), F("named"), F("tag")),
        length=Length("tenant"),
    )
    proven = Q(named__in=owners, digest=F("proof"))
    unsure = Q(tenant="") | Q(length__gte=LONGEST_TEXT) | Q(tenant__contains="\ufffd")
    tried = Q(digest__in=[Digest(Value("tag"), Value(owner), F("tag")) for owner in owners])
    own = Q(everybody=False) & Q(tenant__in=["", *sorted(names)]) & (proven | unsure & tried)
    return named.filter(own | Q(everybody=True) if EVERYBODY in owners else own)
