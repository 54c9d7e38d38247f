"""Buckets of a site with many tenants, as they would have been rolled up: days, hours, minutes, and their totals."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connections, transaction

from aicache.ledger.compaction import DAY, HOUR
from aicache.ledger.counts import MINUTE
from aicache.ledger.figures import HIT_BINS, SUMMED, UPSTREAM_BINS
from aicache.ledger.place import ALL, OF_ALL, OF_OWNER
from aicache.models import MetricBucket
from aicache.tenants import tenant_digest

ROOT = Path(__file__).parents[2]
PLACES = (("claude-haiku-4-5", "chat"), ("claude-opus-4-8", "default"), ("claude-sonnet-5", "static"))


def generate(using: str, *, days: int = 90, tenants: int = 200, seed: int = 7, now: float | None = None) -> int:
    """→ how many rows. Each tenant and model has calls in each day, in each of the last 48 hours and of the last
    minutes of this one."""
    dice = random.Random(seed)
    at = int(time.time() if now is None else now)
    spans = [(DAY, at // DAY * DAY - DAY * back) for back in range(3, days)]
    spans += [(HOUR, start) for start in range(at // DAY * DAY - 2 * DAY, at // HOUR * HOUR - HOUR, HOUR)]
    spans += [(MINUTE, at // MINUTE * MINUTE - MINUTE * back) for back in range(0, 60, 10)]
    columns = [field for field in MetricBucket._meta.concrete_fields if not field.primary_key]
    quote = connections[using].ops.quote_name
    table, names = quote(MetricBucket._meta.db_table), ", ".join(quote(field.column) for field in columns)
    # As bulk_create it would take a minute.
    insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(columns))})"
    made = 0
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        for span, start in spans:
            rows = [[getattr(row, field.attname) for field in columns] for row in _rows(dice, span, start, tenants)]
            cursor.executemany(insert, rows)
            made += len(rows)
    return made


def generated(path: Path) -> None:
    """Into the database of an example site that is closed, or open."""
    made = "import django; django.setup(); from tests.ledger.generated import generate; generate('default')"
    environment = {"DJANGO_SETTINGS_MODULE": "example_project.settings", "AICACHE_DEMO_DB": str(path)}
    subprocess.run([sys.executable, "-c", made], cwd=ROOT, env={**os.environ, **environment}, check=True)


def _rows(dice: random.Random, span: int, start: int, tenants: int) -> Iterator[MetricBucket]:
    whole: dict[tuple[str, str], Counter[str]] = {place: Counter() for place in PLACES}
    for number in range(tenants):
        name, sums = f"tenant-{number:03}", Counter[str]()
        whose: dict[str, Any] = {"owner": tenant_digest(name), "tenant": name}
        for model, policy in PLACES:
            figures = _figures(dice, span)
            process = "one" if span == MINUTE else ""
            yield MetricBucket(process=process, span=span, start=start, model=model, policy=policy, **whose, **figures)
            sums.update(figures)
            whole[model, policy].update(figures)
        if span != MINUTE:
            yield MetricBucket(span=span, start=start, total=OF_OWNER, **whose, **sums)
    for (model, policy), sums in whole.items() if span != MINUTE else ():
        yield MetricBucket(span=span, start=start, total=OF_ALL, owner=ALL, model=model, policy=policy, **sums)


def _figures(dice: random.Random, span: int) -> dict[str, int]:
    calls = dice.randrange(1, 4 + span // 600)
    hit = round(calls * dice.uniform(0.4, 0.9))
    miss = calls - hit
    spent, saved = (number * dice.randrange(1_000_000, 40_000_000) for number in (miss, hit))
    found = dict.fromkeys(SUMMED, 0)
    found.update(
        hit=hit,
        stale=hit // 20,
        coalesced=hit // 15,
        miss=miss,
        error=miss // 30,
        upstream_calls=miss + miss // 30,
        upstream_tokens=miss * 900,
        saved_tokens=hit * 900,
        stale_blocked=miss // 9,
        checked=calls // 120,
        wrong=calls // 1500,
        expired=miss // 4,
        late_1h=miss // 8,
        late_6h=miss // 6,
        late_1d=miss // 5,
        reads=miss // 2,
        writes=miss // 9,
        redundant_writes=miss // 40,
        redundant_nano_usd=miss // 40 * 3_000_000,
        spent_nano_usd=spent,
        saved_nano_usd=saved,
        premium_nano_usd=saved // 60,
        expired_nano_usd=spent // 4,
        hit_us=hit * 1500,
        upstream_ms=miss * 2500,
    )
    for bins, number in ((HIT_BINS, hit + hit // 20), (UPSTREAM_BINS, miss)):
        found[bins[2]] += number // 2
        found[bins[3]] += number - number // 2 - number // 10
        found[bins[5]] += number // 10
    return found
