"""Which rows of tags and invalidations are a tenant's, though they know its name only in part."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from django.utils import timezone

from aicache import GLOBAL
from aicache.admin.owners import theirs
from aicache.core.tags import Tag, of_answer
from aicache.freshness.outbox import LONGEST_NAME, LONGEST_TEXT, storable
from aicache.models import CacheEntry, IdempotencyKey, Invalidation, InvalidationTag
from aicache.sight import Sight
from aicache.tenants import ONLY, Everybody, Tenant, tenant_digest

LONG = "x" * 255
TENANTS: list[Tenant] = [
    "acme",
    "Acme",
    "acme ",
    " ",
    "globex",
    "7",
    LONG,
    LONG + "a",
    LONG + "b",
    "nul\0",
    "nul\ufffd",
    "é'\"\\%_\n",
    "é'\"\\%_\n" * 80,
    ONLY,
    GLOBAL,
]
NAMES = ["prices", "shop.article:*", "ü\\%_'\0"[:-1], "n" * 202]


def written(using: str, tag: Tag, tenant: Tenant, label: str | None = None) -> None:
    """One row of each table, as the app writes it. ``label``: as its row spells the tenant."""
    everybody = isinstance(tenant, Everybody)
    row: dict[str, Any] = {
        "digest": tag.digest,
        "tag": storable(tag.name, LONGEST_NAME),
        "tenant": storable("" if isinstance(tenant, Everybody) else tenant, LONGEST_TEXT) if label is None else label,
        "everybody": everybody,
    }
    Invalidation.objects.using(using).create(**row, made_at=timezone.now())
    InvalidationTag.objects.using(using).create(**row, seen_at=timezone.now())


def found(model: Any, using: str, sight: Sight) -> set[str]:
    return set(theirs(model.objects.using(using), sight).values_list("digest", flat=True))


@pytest.mark.parametrize("unknown", [False, True], ids=["named", "unknown"])
def test_each_row_is_seen_by_those_alone_who_may_see_its_tenant(using: str, unknown: bool) -> None:
    digests: dict[Tenant, set[str]] = {}
    for tenant in TENANTS:
        owner = tenant_digest(tenant)
        tags = [*(Tag(name, owner) for name in NAMES), of_answer("l" * 64, "k" * 64, owner)]
        digests[tenant] = {tag.digest for tag in tags}
        for tag in tags:
            written(using, tag, tenant, "" if unknown else None)

    for model in (Invalidation, InvalidationTag):
        for tenant in TENANTS:
            assert found(model, using, Sight.of([tenant])) == digests[tenant], repr(tenant)
        for one, other in combinations(TENANTS, 2):
            assert found(model, using, Sight.of([one, other])) == digests[one] | digests[other]
        assert found(model, using, Sight.of(TENANTS)) == set().union(*digests.values())
        assert found(model, using, Sight(None)) == set().union(*digests.values())
        assert found(model, using, Sight.of([])) == set()
        assert found(model, using, Sight.of(["a stranger"])) == set()


def test_a_row_that_says_another_tenant_than_its_digest_is_nobodys(using: str) -> None:
    written(using, Tag("prices", tenant_digest("globex")), "globex", label="acme")
    for model in (Invalidation, InvalidationTag):
        assert found(model, using, Sight.of(["acme", "globex"])) == set()


def test_a_name_that_the_database_could_not_keep_is_shown_to_no_one_who_is_limited(using: str) -> None:
    written(using, Tag("nul\0", tenant_digest("acme")), "acme")
    for model in (Invalidation, InvalidationTag):
        assert found(model, using, Sight.of(["acme"])) == set()
        assert len(found(model, using, Sight(None))) == 1


def test_a_user_may_have_many_tenants(using: str) -> None:
    many = [f"tenant {number}" for number in range(3000)]
    for label in (None, ""):
        written(using, Tag(f"prices {label}", tenant_digest("tenant 2999")), "tenant 2999", label)
        written(using, Tag(f"prices {label}", tenant_digest("a stranger")), "a stranger", label)
    for model in (Invalidation, InvalidationTag):
        assert len(found(model, using, Sight.of(many))) == 2


def test_answers_and_keys_know_whose_they_are(using: str) -> None:
    now = timezone.now()
    for number, tenant in enumerate(TENANTS):
        owner = tenant_digest(tenant)
        CacheEntry.objects.using(using).create(
            digest=number, owner=owner, created_at=now, fresh_until=now, expires_at=now, payload=b""
        )
        IdempotencyKey.objects.using(using).create(digest=number, owner=owner, created_at=now, expires_at=now)
    for model in (CacheEntry, IdempotencyKey):
        for number, tenant in enumerate(TENANTS):
            assert found(model, using, Sight.of([tenant])) == {str(number)}
        assert found(model, using, Sight.of([])) == set()
        assert len(found(model, using, Sight(None))) == len(TENANTS)
