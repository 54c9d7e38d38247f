"""Mistakes with stamps, transactions, drains and servers, each in the world that shows it soonest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from aicache.core import flow, records, tags
from aicache.freshness import drain, outbox
from aicache.store import connections, links, plans, scripts
from aicache.store import tags as stored
from aicache.testing.memory import MemoryStore
from tests.freshness_machine.change import Change

_moment = threading.local()


def again(rows: Any, ids: Sequence[int] = ()) -> None:
    """The stamp that is drawn next in this thread is the one of these rows' commit."""
    from tests.freshness_machine.stage import shown

    row = rows or next(row for row in shown.world.database.invalidations.rows if row.id in ids)
    _moment.drawn = f"{row.death.committed:012}"


def drawn(keys: Any) -> str:
    return keys.epoch + str(_moment.drawn)


PUBLISH: Final = "finishing = Finish("
MAY_KEEP: Final = "keep = of.stamps.stand(now)"
STANDS: Final = "kept.stamps.stand(stamps)"
SAVER_DRAWS: Final = "stamps.apply(self.dying,"
DRAIN_DRAWS: Final = "stamps.apply("
ALL_OF_THEM: Final = 'stamps.apply(list({row.digest: _tag(row) for row in rows}.values()), using=alias, cause="drain")'
HERE: Final = "from tests.freshness_machine import mutants"

# By what goes wrong. Some take two changes: there is a second defence.
MUTANTS: Final[dict[str, tuple[Any, ...]]] = {
    "stamps_are_taken_after_the_call": (
        "savers",
        Change(flow, "lead", PUBLISH, "entry = replace(entry, stamps=(yield Capture(ask)))\n    " + PUBLISH),
        Change(plans, "finish", MAY_KEEP, "keep = entry.stamps.stand(now)"),
    ),
    "stamps_are_those_of_publishing": (
        "savers",
        Change(
            plans,
            "finish",
            MAY_KEEP,
            "from dataclasses import replace; from aicache.store.payload import pack_entry;"
            " entry = replace(entry, stamps=now); payload = pack_entry(entry)",
        ),
    ),
    "look_does_not_compare": (
        "savers",
        Change(plans, "look", STANDS, "True"),
    ),
    "look_takes_what_is_missing": (
        "evictions",
        Change(
            plans,
            "look",
            "stamps is not None and " + STANDS,
            "all(value in (None, then) for value, then in zip(values, kept.stamps.values))",
        ),
    ),
    "stale_is_not_compared": (
        "time",
        Change(plans, "look", STANDS, f"({STANDS} or kept.fresh_until <= now)"),
    ),
    "lead_does_not_compare": (
        "savers",
        Change(scripts, "LEAD", "string.sub(entry, 7, 22) == ARGV[4]", "true"),
    ),
    "followers_of_any_stamps": (
        "savers",
        Change(records.Stamps, "flight", "return hashlib", 'return "one" or hashlib'),
    ),
    "missing_stamps_are_made_the_same": (
        "evictions",
        Change(plans, "capture", "a_stamp(keys) if", 'keys.epoch + "x" * 12 if'),
    ),
    "everybodys_stamp_does_not_count": (
        "tags",
        Change(tags, "hanging", "(tenant, EVERYBODY)", "(tenant,)"),
    ),
    "drain_draws_no_stamp": (
        "drains",
        Change(drain, "drain", DRAIN_DRAWS, "(lambda *_, **__: None)("),
    ),
    "drain_draws_the_old_stamp": (
        "drains",
        Change(
            drain,
            "drain",
            ALL_OF_THEM,
            HERE
            + "\n            for row in rows: mutants.again(row); stamps.apply([_tag(row)], using=alias, cause='')",
        ),
        Change(outbox.Applying, "__call__", SAVER_DRAWS, f"{HERE}; mutants.again(None, ids); {SAVER_DRAWS}"),
        Change(stored, "a_stamp", "return keys", f"{HERE}; return mutants.drawn(keys) or keys"),
    ),
    "drain_marks_first": (
        "drains",
        Change(drain, "drain", DRAIN_DRAWS, "outbox.mark((row.id for row in rows), alias); " + DRAIN_DRAWS),
    ),
    "saver_is_done_before_it_stamps": (
        "savers",
        Change(outbox.Applying, "__call__", SAVER_DRAWS, "mark(ids, using); " + SAVER_DRAWS),
    ),
    "what_is_pending_counts_as_applied": (
        "outages",
        Change(outbox.Applying, "__call__", "except Unavailable:\n        return", "except Unavailable:\n        pass"),
    ),
    "strict_does_not_count": (
        "strict",
        Change(flow, "look", "if ask.policy.consistency", "if not ask.policy.consistency"),
    ),
    "strict_counts_after_the_call": (
        "strict",
        Change(
            flow,
            "lead",
            PUBLISH,
            "if stamps.generations:"
            " entry = replace(entry, stamps=replace(stamps, generations=(yield Count(ask.counted))))\n    " + PUBLISH,
        ),
    ),
    "what_is_uncommitted_does_not_count": (
        "transactions",
        Change(outbox, "uncommitted", "if not _busy:", "if True:"),
    ),
    "all_epochs_are_one": (
        "snapshots",
        Change(links.Link, "_learn", "hashlib.sha256(identity.encode()).hexdigest()[:EPOCH]", '"0" * EPOCH'),
    ),
    "connections_are_not_compared": (
        "snapshots",
        Change(links.Link, "_compare", ") != identity:", ") is None:"),
    ),
    "redis_is_trusted_without_a_drain": (
        "outages",
        Change(connections.Connections, "_probe", "recover()", "pass"),
    ),
}

# The same in the store of the tests, which is to promise what the other does.
IN_MEMORY: Final[dict[str, tuple[Any, ...]]] = {
    "look_does_not_compare": (
        "savers",
        Change(MemoryStore, "_look", "entry.stamps.values == present", "True"),
    ),
    "lead_does_not_compare": (
        "savers",
        Change(MemoryStore, "_lead", "entry.stamps.mark == lead.stamps.mark", "True"),
    ),
    "missing_stamps_are_made_the_same": (
        "evictions",
        Change(MemoryStore, "_capture", "secrets.token_hex(8)", '"same"'),
    ),
    "followers_of_any_stamps": MUTANTS["followers_of_any_stamps"],
    "strict_does_not_count": MUTANTS["strict_does_not_count"],
}

# Not mistakes of safety: see test_machine.py.
HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "finish_does_not_compare": (
        "savers",
        Change(plans, "finish", MAY_KEEP, "keep = True"),
    ),
    "everybody_leads": (
        "savers",
        Change(scripts, "LEAD", "if token and mark and under == mark then", "if false then"),
    ),
}
