"""What an invalidation costs who saves: of a tag on which one answer hangs, and of one on which 100,000 hang."""

from __future__ import annotations

import hashlib
import secrets
import time

from aicache.core.operations import Capture, Look
from aicache.core.policy import Policy
from aicache.core.records import Answer, Ask, Entry
from aicache.core.tags import EVERYBODY, Tag
from aicache.store import Address, Store
from aicache.store.keys import Keys
from aicache.store.payload import pack_entry
from aicache.store.scripts import Plan
from aicache.store.tags import hang
from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, row, title

MANY, BATCH, TIMES = 100_000, 500, 500
ONE, LOTS = (Tag(name, EVERYBODY) for name in ("one", "lots"))


def run(server: Valkey) -> None:
    title(f"An invalidation, {TIMES} times: of one answer, and of {MANY:,}")
    store = Store(Address((server.url,)), secrets.token_hex(4))
    try:
        few, many = _fill(store, ONE, 1), _fill(store, LOTS, MANY)
        assert store.counts([ONE, LOTS]) == [1, MANY]
        took: dict[Tag, list[float]] = {ONE: [], LOTS: []}
        for _ in range(TIMES):
            for tag in (ONE, LOTS):
                began = time.perf_counter()
                store.stamp([tag])
                took[tag].append(time.perf_counter() - began)
        assert all(store.perform(Look(ask)).entry is None for ask in (*few, *many[::100]))
        row("one answer hangs on the tag", took[ONE], unit="µs")
        row(f"{MANY:,} answers hang on the tag", took[LOTS], took[ONE], unit="µs")
        began, freed, done = time.perf_counter(), 0, False
        while not done:
            batch, done = store.reclaim(10_000)
            freed += batch
        print(f"  their memory is freed afterwards, beside: {freed / (time.perf_counter() - began):,.0f} a second")
        assert freed == MANY + 1
    finally:
        store.close()


def _fill(store: Store, tag: Tag, number: int) -> list[Ask]:
    """As many answers on a tag as flows would keep there one by one."""
    digests = [hashlib.sha256(f"{tag.name} {at}".encode()).hexdigest() for at in range(number)]
    asks = [Ask(digest, digest, EVERYBODY, Policy("default"), tags=(tag,)) for digest in digests]
    stamps = store.perform(Capture(asks[0]))
    now = time.time()
    for at in range(0, number, BATCH):
        progress(f"{at:,} of {number:,}")
        batch = asks[at : at + BATCH]
        entries = [Entry(ask.key, ask.tenant, Answer(b"{}"), now, now + 3600, now + 3600, stamps) for ask in batch]
        store.connections.run(lambda keys, _, batch=batch, entries=entries: _keep(keys, batch, entries))
    assert store.perform(Look(asks[-1])).entry is not None
    return asks


def _keep(keys: Keys, asks: list[Ask], entries: list[Entry]) -> Plan:
    pairs = list(zip(asks, entries, strict=True))
    yield [("SET", keys.entry(ask), pack_entry(entry), "EX", 3600) for ask, entry in pairs]
    yield from hang(keys, *pairs[0])  # the server knows the script from now on
    yield [command for ask, entry in pairs[1:] for command in next(hang(keys, ask, entry))]
