"""Staff that is limited to some tenants, and rows of two tenants and of everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib.admin.models import CHANGE
from django.contrib.auth.models import User
from django.test import RequestFactory, override_settings

from aicache import GLOBAL, invalidate
from aicache.admin.confirmation import write_down
from aicache.conf import get_settings
from aicache.core.tags import OURS
from aicache.durable import get_writer
from aicache.models import CacheEntry, IdempotencyKey, Invalidation, InvalidationTag
from aicache.tenants import Tenant, tenant_digest
from tests.admin.kept import kept, message, pinned, question
from tests.admin.pages import ENTRIES, INVALIDATIONS, KEYS, TAGS
from tests.answers import ask, index, without_redis

LISTS: Final[dict[str, Any]] = {
    ENTRIES: CacheEntry,
    KEYS: IdempotencyKey,
    TAGS: InvalidationTag,
    INVALIDATIONS: Invalidation,
}


@contextmanager
def limited_to(*tenants: Any) -> Iterator[None]:
    """All staff."""
    chosen = {"NAMESPACE": get_settings().namespace, "STAFF_TENANTS": lambda request: tenants}
    with override_settings(AICACHE=chosen):
        yield


@dataclass
class Belongings:
    """What one tenant has. ``name`` is a word in all that may be shown of it; ``ids``: by the address of a list."""

    tenant: Tenant
    name: str
    ids: dict[str, list[int]] = field(default_factory=dict)

    def asked(self) -> str:
        """What becomes of a call that its living answer would serve."""
        return ask(f"{self.name} question", f"{self.name}-tag", tenant=self.tenant)

    def digests(self) -> list[str]:
        """By which it may be named in addresses."""
        rows = Invalidation.objects.filter(pk__in=self.ids[INVALIDATIONS])
        return [*rows.values_list("digest", flat=True), tenant_digest(self.tenant)]


def everything() -> tuple[Belongings, Belongings, Belongings]:
    """Of each kind some, as the app writes them: acme's, globex's and everybody's."""
    all_of_them = Belongings("acme", "acme"), Belongings("globex", "globex"), Belongings(GLOBAL, "shared")
    for one in all_of_them:
        _written(one)
    index()
    InvalidationTag.objects.filter(tag__endswith="-dead", everybody=False).update(tenant="")
    assert get_writer().flush()
    for one in all_of_them:
        for address, model in LISTS.items():
            rows = model.objects.filter(everybody=one.tenant is GLOBAL)
            if model in (Invalidation, InvalidationTag):
                rows = rows.exclude(tag__startswith=OURS)
            if one.tenant is not GLOBAL and model in (Invalidation, InvalidationTag):
                rows = rows.filter(tag__startswith=one.name)
            elif one.tenant is not GLOBAL:
                rows = rows.filter(tenant=one.name)
            one.ids[address] = sorted(rows.values_list("pk", flat=True))
            assert one.ids[address]
        _history(one)
    return all_of_them


def _written(one: Belongings) -> None:
    name, tenant = one.name, one.tenant
    assert one.asked() == "miss"
    assert ask("?", f"{name}-dead", tenant=tenant) == "miss"
    invalidate(f"{name}-dead", tenant=tenant)
    with without_redis():
        invalidate(f"{name}-pending", tenant=tenant)
    asked, told = question(f"{name} question"), message(f"{name} words")
    kept(told, f"{name}-tag", policy=f"{name}-policy", request=asked, model=f"{name}-model", tenant=tenant)
    pinned(f"{name}-key", told, model=f"{name}-model", tenant=tenant)


def _history(one: Belongings) -> None:
    """Somebody has done something to each."""
    request = RequestFactory().post("/")
    request.user = User.objects.create_user(f"staff of {one.name}", is_staff=True)
    row, deed = f"{one.name} row", f"{one.name} deed"
    for address, model in LISTS.items():
        write_down(request, model, CHANGE, [(str(pk), row, deed) for pk in one.ids[address]])
