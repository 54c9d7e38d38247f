"""Rows as they are written."""

from __future__ import annotations

import time
from typing import Any

from aicache.ledger.counts import MINUTE
from aicache.models import MetricBucket
from aicache.tenants import tenant_digest


def this_minute() -> int:
    return int(time.time()) // MINUTE * MINUTE


def bucket(tenant: str = "acme", *, ago: int = 0, **fields: Any) -> MetricBucket:
    """Of another process, so many minutes ago, where nothing else is said."""
    place = {"process": "one", "span": MINUTE, "start": this_minute() - ago * MINUTE, "owner": tenant_digest(tenant)}
    return MetricBucket(**{**place, "tenant": tenant, **fields})


def counted(tenant: str = "acme", *, using: str = "default", **fields: Any) -> None:
    bucket(tenant, **fields).save(using=using)
