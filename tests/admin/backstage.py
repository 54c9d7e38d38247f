"""The URLs of a site whose admin has another name, and is the only one."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import path

from aicache.admin import EntryAdmin, IdempotencyAdmin, InvalidationAdmin, TagAdmin
from aicache.models import CacheEntry, IdempotencyKey, Invalidation, InvalidationTag

site = AdminSite(name="backstage")
site.register(CacheEntry, EntryAdmin)
site.register(IdempotencyKey, IdempotencyAdmin)
site.register(Invalidation, InvalidationAdmin)
site.register(InvalidationTag, TagAdmin)

urlpatterns = [path("backstage/", site.urls)]
