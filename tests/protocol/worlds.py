"""The worlds in which the protocol is searched for a counterexample."""

from __future__ import annotations

from tests.protocol.world import World

PLAIN, STRICT, INSIDE = "plain", "strict", "inside"
OWN, EVERYBODYS = 0, 1  # one name's two tags; or two names

WORLDS = {
    "one saver, three readers": World(((OWN,),), (PLAIN,) * 3),
    "two savers": World(((OWN,), (OWN,))),
    "two tags, a saver of each": World(((OWN,), (EVERYBODYS,)), tags=2, hangs=2, in_use=True),
    "a saver of two tags, an eviction": World(((OWN, EVERYBODYS),), tags=2, hangs=2, evictions=1),
    "two evictions": World(((OWN,),), evictions=2),
    "three readers, an eviction": World(((OWN,),), (PLAIN,) * 3, evictions=1),
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
    "a strict and a plain reader, compaction": World(((OWN,), (OWN,)), (STRICT, PLAIN), in_use=True, compacts=True),
    "strict and stale": World(((OWN,),), (STRICT, PLAIN), expires=True),
    "strict on a cluster": World(((OWN,),), (STRICT, STRICT), look="stamps first"),
    "a transaction": World(((OWN,),), (INSIDE, PLAIN, PLAIN), transactions=True),
    "Redis out of reach of one process": World(
        ((OWN,), (OWN,)), in_use=True, homes_of_savers=(0, 0), homes_of_readers=(0, 1)
    ),
}

LARGE = {
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
}
