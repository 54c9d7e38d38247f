"""Ways to get it wrong, each in the smallest world that shows it; and ways to differ that do no harm."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tests.protocol.world import World
from tests.protocol.worlds import (
    COPIED,
    EVERYBODYS,
    INSIDE,
    OWN,
    PINNED,
    PLAIN,
    PURGED,
    PURGED_COPY,
    STRICT,
)


class Mistake(NamedTuple):
    says: str
    world: World


ONE = World(((OWN,),))
ALONE = World(((OWN,),), (PLAIN,))
TWICE = World(((OWN,), (OWN,)), in_use=True)
EVICTED = World(((OWN,),), evictions=1)
TWO_TAGS = World(((EVERYBODYS,),), tags=2, hangs=2)
STRICTLY = World(((OWN,),), (STRICT, STRICT))
RESTARTED = World(((OWN,),), restarts=1)
INSIDE_ONE = World(((OWN,),), (INSIDE, PLAIN), transactions=True)
OTHER_SAVER = World(((OWN,),), opinions_of_savers=(1,), opinions_of_readers=(0, 0))
CALLED = replace(COPIED, kept=False)
RECALLED = replace(COPIED, readers=(PLAIN,))
APART = World(((OWN,),), homes_of_savers=(0,), homes_of_readers=(0, 1))

MISTAKES = {
    "late_stamp": Mistake("an answer is kept with the stamps that stand after its call", ONE),
    "early_stamp": Mistake("the saver stamps inside its transaction, before the commit", ONE),
    "zero_stamp": Mistake("a missing stamp is made anew with a fixed value", EVICTED),
    "remembered_stamp": Mistake("a missing stamp is made anew with the value that was seen last", EVICTED),
    "missing_matches": Mistake("a missing stamp counts as one that stands", EVICTED),
    "tenant_only": Mistake("everybody's stamp is not compared, the tenant's only", TWO_TAGS),
    "blind_waiter": Mistake("a waiter takes the answer of a leader who captured other stamps", ONE),
    "blind_lead": Mistake("who would lead takes an answer that came, whatever it was kept with", ONE),
    "stale_unchecked": Mistake("an expired answer is served without comparing stamps", replace(ONE, expires=True)),
    "ack_first": Mistake("the saver returns before it has stamped", ONE),
    "ack_unstamped": Mistake("a saver that could not reach Redis counts as acknowledged", APART),
    "autocommit": Mistake("the rows are written after the document's commit", ONE),
    "mark_first": Mistake("the drain marks a row before it stamps", ONE),
    "old_stamp": Mistake("the drain stamps with the value that the saver had drawn", TWICE),
    "trust_snapshot": Mistake("a Redis that came back is the same epoch", RESTARTED),
    "any_epoch": Mistake("a stamp of another epoch counts as one that stands", RESTARTED),
    "epoch_unbound": Mistake("who knows the former epoch is answered by the server that came back", RESTARTED),
    "keyed_epoch": Mistake("the epoch is in each key, and not in each stamp", OTHER_SAVER),
    "spares_strangers": Mistake("an invalidation leaves a stamp of another epoch as it is", OTHER_SAVER),
    "reads_replica": Mistake("a reader looks at a replica of the server that it met", RESTARTED),
    "trust_at_once": Mistake("a process trusts Redis after an outage without a drain", APART),
    "drain_forgets": Mistake(
        "a saver is turned away while its process drains, which then trusts Redis",
        World(((OWN,), (OWN,)), in_use=True, homes_of_savers=(0, 0), homes_of_readers=(0, 1)),
    ),
    "undrained_database": Mistake(
        "a process drains some of the databases that have rows, and trusts Redis",
        replace(APART, savers=((EVERYBODYS,),), tags=2, hangs=2),
    ),
    "strict_by_stamps": Mistake("a strict reader compares stamps only", STRICTLY),
    "strict_lead": Mistake("a strict reader that would lead takes an answer by its stamps only", STRICTLY),
    "strict_flight": Mistake("a strict reader waits for a leader with other generations", STRICTLY),
    "late_generations": Mistake("an answer is kept with the generations that stand after its call", STRICTLY),
    "split_compaction": Mistake(
        "compaction deletes rows and adds to the base in two transactions",
        replace(STRICTLY, compacts=True),
    ),
    "unknown_database": Mistake(
        "a strict reader does not read the generations of each database that has rows of its tags",
        replace(TWO_TAGS, readers=(STRICT, STRICT)),  # the second tag stands for the first one in another database
    ),
    "stores_inside": Mistake("a caller inside a transaction stores its answer", INSIDE_ONE),
    "reads_inside": Mistake("a caller inside a transaction reads", INSIDE_ONE),
    "count_in_call": Mistake("the generations of a copy are counted when the call has begun", CALLED),
    "late_count": Mistake("the generations of a copy are counted when the answer is there", CALLED),
    "late_copy": Mistake("a copy is written with the generations that stand when it is written", CALLED),
    "copy_unchecked": Mistake("a copy is served without comparing its generations", RECALLED),
    "old_snapshot": Mistake(
        "generations are counted in an old snapshot: on the caller's own connection, or on a replica", RECALLED
    ),
    "late_put_back": Mistake("a copy is put back under the stamps that stand after it was read", COPIED),
    "blind_put_back": Mistake("a copy is put back without what Finish compares", PURGED_COPY),
    "pin_today": Mistake("an answer is pinned with the generations that stand when it is pinned", PINNED),
    "purge_in_redis": Mistake("a purge deletes in Redis only", replace(PURGED_COPY, readers=(PLAIN,))),
    "uncounted_purge": Mistake(
        "a purge deletes the copy's row too, and leaves no count", replace(PURGED_COPY, kept=False)
    ),
    "mark_stays": Mistake("a purge deletes the entry, and leaves its mark", PURGED),
    "split_purge": Mistake("a purge deletes the entry first and its mark then", PURGED),
    "late_mark": Mistake(
        "the mark is compared at Finish only: who comes after a purge waits for who led before", PURGED
    ),
    "no_mark": Mistake("a missing mark is not drawn, and none equals none", PURGED),
}

LIMITS = {
    "old_primary": Mistake("a primary that was replaced is still reached by some, and answers them", RESTARTED),
    "demoted_primary": Mistake("a primary that was made a replica keeps its clients, for five seconds", RESTARTED),
    "slot_returns": Mistake(
        "a cluster's stamps come back to a node that they had left, from one that lost some of them",
        RESTARTED,
    ),
}
"""What the protocol does not cover, and strict readers are safe from."""

HARMLESS = {
    "no_compare": "a leader does not compare its stamps after the call, and stores a dead answer",
    "stores_late": "a leader whose lease has ended stores all the same",
    "no_lease": "there are no leases, everybody leads",
    "sets_always": "an invalidation makes a stamp where none stands",
    "deletes": "an invalidation deletes the stamp, and draws none",
    "keeps_superseded": "an answer that was superseded, or came too late, is copied all the same",
    "saver_unbound": "a saver draws stamps of the former epoch on the server that came back",
}
"""What safety does not rest on: these cost calls or memory, no freshness."""

ROUGH = (
    World(((OWN,),), (PLAIN,) * 3),
    World(((OWN,),), evictions=2),
    World(((OWN,),), restarts=1),
    PURGED_COPY,
)
"""The worlds in which that is seen."""
