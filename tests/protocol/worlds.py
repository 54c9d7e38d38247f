"""The worlds in which the protocol is searched for a counterexample."""

from __future__ import annotations

from dataclasses import replace

from tests.protocol.world import ITSELF, World

PLAIN, STRICT, INSIDE = "plain", "strict", "inside"
OWN, EVERYBODYS = 0, 1  # one name's two tags; or two names

COPIED = World(((OWN,),), copies="row first", kept=True)
PURGED = World(((ITSELF,),))
PURGED_COPY = replace(COPIED, savers=PURGED.savers)
PINNED = replace(COPIED, pins=True)
PURGED_AND_SAVED = World(((ITSELF,), (OWN,)))

WORLDS = {
    "one saver, three readers": World(((OWN,),), (PLAIN,) * 3),
    "two savers": World(((OWN,), (OWN,))),
    "two tags, a saver of each": World(((OWN,), (EVERYBODYS,)), tags=2, hangs=2, in_use=True),
    "a saver of two tags, an eviction": World(((OWN, EVERYBODYS),), tags=2, hangs=2, evictions=1),
    "two evictions": World(((OWN,),), evictions=2),
    "a cluster that reads the entry first": World(((OWN,),), look="entry first", evictions=1),
    "a cluster that reads the stamps first": World(((OWN,),), look="stamps first", evictions=1),
    "a restart": World(((OWN,),), restarts=1),
    "a restart, an eviction": World(((OWN,),), restarts=1, evictions=1),
    "two opinions, three readers": World(
        ((OWN,),), (PLAIN,) * 3, opinions_of_savers=(1,), opinions_of_readers=(0, 0, 1)
    ),
    "two opinions, two savers": World(
        ((OWN,), (OWN,)), in_use=True, opinions_of_savers=(0, 1), opinions_of_readers=(0, 0)
    ),
    "two opinions, a restart": World(((OWN,),), restarts=1, opinions_of_savers=(1,), opinions_of_readers=(0, 0)),
    "two opinions on a cluster, an eviction": World(
        ((OWN,),), look="stamps first", evictions=1, opinions_of_savers=(1,), opinions_of_readers=(0, 1)
    ),
    "stale-while-revalidate": World(((OWN,),), (PLAIN,) * 3, expires=True),
    "two strict readers": World(((OWN,),), (STRICT, STRICT), evictions=1),
    "strict and stale": World(((OWN,),), (STRICT, PLAIN), expires=True),
    "strict on a cluster": World(((OWN,),), (STRICT, STRICT), look="stamps first"),
    "a transaction": World(((OWN,),), (INSIDE, PLAIN, PLAIN), transactions=True),
    "Redis out of reach of one process": World(
        ((OWN,), (OWN,)), in_use=True, homes_of_savers=(0, 0), homes_of_readers=(0, 1)
    ),
    "a copy, an eviction": replace(COPIED, evictions=1),
    "a copy, counted before it is read": replace(COPIED, copies="count first"),
    "a copy on a cluster that reads the entry first": replace(COPIED, look="entry first"),
    "a copy on a cluster that reads the stamps first": replace(COPIED, look="stamps first"),
    "a copy, two opinions": replace(COPIED, opinions_of_savers=(1,), opinions_of_readers=(0, 1)),
    "a copy, Redis out of reach of one process": replace(COPIED, homes_of_savers=(0,), homes_of_readers=(0, 1)),
    "a copy, stale-while-revalidate": replace(COPIED, expires=True),
    "a copy, a strict and a plain reader": replace(COPIED, readers=(STRICT, PLAIN)),
    "a copy, compaction": replace(COPIED, compacts=True),
    "a purge, three readers": replace(PURGED, readers=(PLAIN,) * 3),
    "a purge, two evictions": replace(PURGED, evictions=2),
    "a purge, a restart": replace(PURGED, restarts=1),
    "a purge, stale-while-revalidate": replace(PURGED, readers=(PLAIN,) * 3, expires=True),
    "a purge of what has no tags": replace(PURGED, readers=(PLAIN,) * 3, tags=0, hangs=0, evictions=1),
    "two purges": replace(PURGED, savers=((ITSELF,),) * 2),
    "a purge and a saver": PURGED_AND_SAVED,
    "a purge, a copy": PURGED_COPY,
    "a purge, a copy, a strict and a plain reader": replace(PURGED_COPY, readers=(STRICT, PLAIN)),
    "a pin": PINNED,
    "a pin, a purge": replace(PINNED, savers=PURGED.savers),
}

LARGE = {
    "three readers, an eviction": World(((OWN,),), (PLAIN,) * 3, evictions=1),
    "a strict and a plain reader, compaction": World(((OWN,), (OWN,)), (STRICT, PLAIN), in_use=True, compacts=True),
    "a copy, a restart": replace(COPIED, restarts=1),
    "two tags, a saver of each, not in use": World(((OWN,), (EVERYBODYS,)), tags=2, hangs=2),
    "two savers, Redis out of reach, an eviction": World(
        ((OWN,), (OWN,)), evictions=1, homes_of_savers=(0, 0), homes_of_readers=(0, 1)
    ),
    "two savers, three readers": World(((OWN,), (OWN,)), (PLAIN,) * 3),
    "two savers, an eviction": World(((OWN,), (OWN,)), evictions=1),
    "two savers, a restart": World(((OWN,), (OWN,)), restarts=1),
    "two restarts": World(((OWN,),), restarts=2),
    "a restart of a cluster, entry first": World(((OWN,),), look="entry first", restarts=1, evictions=1),
    "two opinions of two savers and two readers": World(
        ((OWN,), (OWN,)), opinions_of_savers=(0, 1), opinions_of_readers=(0, 1)
    ),
    "two opinions, two savers, a restart": World(
        ((OWN,), (OWN,)), restarts=1, opinions_of_savers=(0, 1), opinions_of_readers=(0, 1)
    ),
    "two opinions, two tags": World(
        ((OWN,), (EVERYBODYS,)), tags=2, hangs=2, opinions_of_savers=(0, 1), opinions_of_readers=(0, 1)
    ),
    "two opinions, stale-while-revalidate": World(
        ((OWN,),), (PLAIN,) * 3, expires=True, opinions_of_savers=(1,), opinions_of_readers=(0, 0, 1)
    ),
    "two opinions, strict": World(
        ((OWN,), (OWN,)), (STRICT, STRICT), opinions_of_savers=(0, 1), opinions_of_readers=(0, 1)
    ),
    "two tags, an eviction": World(((OWN,), (EVERYBODYS,)), tags=2, hangs=2, evictions=1),
    "two savers on a cluster, entry first": World(((OWN,), (OWN,)), look="entry first", evictions=1),
    "two savers on a cluster, stamps first": World(((OWN,), (OWN,)), look="stamps first", evictions=1),
    "two strict readers and a plain one": World(((OWN,),), (STRICT, STRICT, PLAIN)),
    "two strict readers, two savers, compaction": World(((OWN,), (OWN,)), (STRICT, STRICT), compacts=True),
    "strict, two tags": World(((OWN, EVERYBODYS), (OWN,)), (STRICT, STRICT), tags=2, hangs=2),
    "stale-while-revalidate, two savers": World(((OWN,), (OWN,)), expires=True, evictions=1),
    "a copy, two strict readers, an eviction": replace(COPIED, readers=(STRICT, STRICT), evictions=1),
    "a copy, counted before it is read, an eviction": replace(COPIED, copies="count first", evictions=1),
    "a copy, three readers, an eviction": replace(COPIED, readers=(PLAIN,) * 3, evictions=1),
    "a copy, two savers, compaction": replace(COPIED, savers=((OWN,), (OWN,)), compacts=True),
    "a copy, a restart, an eviction": replace(COPIED, restarts=1, evictions=1),
    "a copy, two savers, Redis out of reach": replace(
        COPIED, savers=((OWN,), (OWN,)), homes_of_savers=(0, 0), homes_of_readers=(0, 1)
    ),
    "a copy, two tags": replace(COPIED, savers=((OWN,), (EVERYBODYS,)), tags=2, hangs=2),
    "a copy, a strict and a plain reader, an eviction": replace(COPIED, readers=(STRICT, PLAIN), evictions=1),
    "a copy, stale-while-revalidate, three readers": replace(COPIED, readers=(PLAIN,) * 3, expires=True),
    "a purge and a saver, three readers": replace(PURGED_AND_SAVED, readers=(PLAIN,) * 3),
    "a purge and a saver, a copy": replace(PURGED_AND_SAVED, copies="row first", kept=True),
    "a purge, a copy, three readers, an eviction": replace(PURGED_COPY, readers=(PLAIN,) * 3, evictions=1),
    "a purge, a copy, a restart": replace(PURGED_COPY, restarts=1),
    "a purge, a copy, Redis out of reach of one process": replace(
        PURGED_COPY, evictions=1, homes_of_savers=(0,), homes_of_readers=(0, 1)
    ),
    "a purge, a copy, two opinions": replace(
        PURGED_COPY, evictions=1, opinions_of_savers=(1,), opinions_of_readers=(0, 1)
    ),
    "a pin, a strict and a plain reader": replace(PINNED, readers=(STRICT, PLAIN)),
    "a pin, three readers": replace(PINNED, readers=(PLAIN,) * 3),
    "a pin, a restart": replace(PINNED, restarts=1),
    "a pin, a purge and a saver": replace(PINNED, savers=PURGED_AND_SAVED.savers),
}
