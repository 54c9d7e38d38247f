"""Mistakes with copies of answers, with idempotency keys, and with purges of single answers."""

from __future__ import annotations

from typing import Any, Final

from aicache import frame
from aicache.core import flow, once, records
from aicache.durable import claims, copies
from aicache.store import plans, scripts, tags
from aicache.testing.memory import MemoryStore
from tests.freshness_machine.change import Change

PUBLISH: Final = "finishing = Finish("
MAY_KEEP: Final = "keep = of.stamps.stand(now)"
LED: Final = "'token', ARGV[1], 'mark', mark"
PURGED: Final = "not under or under ~= redis.call('GET', KEYS[5])"
BOTH: Final = 'yield ("DEL", keys.entry_of(*answer), keys.mark_of(*answer))'

TODAYS: Final = (
    "__import__('dataclasses').replace(entry, stamps=type(entry.stamps)("
    "entry.stamps.values, generations(ask.counted), entry.stamps.epoch))"
)

MUTANTS: Final[dict[str, tuple[Any, ...]]] = {
    "copies_are_counted_after_the_call": (
        "copies",
        Change(
            flow,
            "lead",
            PUBLISH,
            "counted = (yield Recall(ask, False)).counted\n"
            "    entry = replace(entry, stamps=replace(stamps, generations=counted))\n    " + PUBLISH,
        ),
    ),
    "copies_are_written_with_the_counts_of_then": (
        "purged copies",
        Change(
            copies.Copies,
            "keep",
            "partial(self._write, ask, entry)",
            f"lambda: self._write(ask, {TODAYS})",
        ),
    ),
    "copies_are_not_compared": (
        "copies",
        Change(copies.Copies, "recall", "entry.stamps.outrun(ask.counted, counted)", "None"),
        Change(flow, "judged", "if not counted or not suits", "if not suits"),
    ),
    "copies_are_put_back_under_new_stamps": (
        "recalls",
        Change(
            flow,
            "lead",
            "replace(recalled.entry, stamps=made_under)",
            "replace(recalled.entry, stamps=replace((yield Capture(ask)), generations=made_under.generations))",
        ),
        Change(plans, "finish", MAY_KEEP, "keep = entry.stamps.stand(now)"),
    ),
    "a_purge_leaves_copies": (
        "purged copies",
        Change(records.Ask, "counted", "(*self.tags, of_answer(self.lineage, self.key, self.tenant))", "self.tags"),
    ),
    "a_purge_leaves_pins": (
        "purged pins",
        Change(records.Ask, "counted", "(*self.tags, of_answer(self.lineage, self.key, self.tenant))", "self.tags"),
    ),
    "a_purge_leaves_the_mark": ("purges", Change(tags, "stamping", BOTH, 'yield ("DEL", keys.entry_of(*answer))')),
    "a_purge_takes_the_mark_last": (
        "purges",
        Change(tags, "stamping", BOTH, 'yield ("DEL", keys.entry_of(*answer)); yield ("DEL", keys.mark_of(*answer))'),
    ),
    "finish_does_not_compare_the_mark": ("purges", Change(scripts, "FINISH", PURGED, "false")),
    "lead_notes_no_mark": (
        "purges",
        Change(scripts, "LEAD", LED, "'token', ARGV[1], 'mark', ''"),
        Change(scripts, "FINISH", PURGED, "under ~= ''"),
    ),
    "a_missing_mark_is_not_drawn": (
        "purges",
        Change(scripts, "LEAD", "mark = ARGV[1]\n  redis.call('SET', KEYS[4], mark, 'PX', ARGV[2])", "mark = ''"),
        Change(scripts, "FINISH", PURGED, "under ~= (redis.call('GET', KEYS[5]) or '')"),
    ),
    "what_is_purged_in_here_does_not_count": (
        "transactions",
        Change(frame, "purged_here", "uncommitted(ask.counted[-1:]) is not None", "False"),
    ),
    "followers_of_any_mark": (
        "purges",
        Change(scripts, "LEAD", "if token and mark and under == mark then", "if token then"),
    ),
    "who_leads_no_more_stores": (
        "purges",
        Change(scripts, "FINISH", "if token ~= ARGV[1] then", "if false then"),
    ),
    "pins_have_the_counts_of_then": (
        "pins",
        Change(
            once,
            "settled",
            "yield Settle(pin, claimed, pinnable(served, pin, claimed,",
            "from aicache.core.operations import Count; now = yield Count(pin.ask.counted)\n"
            "    yield Settle(pin, claimed, pinnable(served, pin, replace(claimed, counted=now),",
        ),
    ),
    "pins_of_others_answers_have_ones_own_counts": (
        "pins",
        Change(once, "pinnable", "if served.own is None:", "if False:"),
    ),
    "pins_are_not_compared": (
        "pins",
        Change(claims.Claims, "_lives", "entry.stamps.generations == generations(pin.ask.counted)", "True"),
    ),
    "pins_answer_whatever_is_asked": (
        "purged pins",
        Change(claims.Claims, "_known", "row.answer == pin.ask.key and ", ""),
        Change(claims.Claims, "_lives", "stands and answers(entry, pin.ask)", "len(entry.stamps.generations)"),
    ),
}

IN_MEMORY: Final[dict[str, tuple[Any, ...]]] = {
    "a_purge_leaves_who_is_at_it": (
        "purges",
        Change(MemoryStore, "_purge", "if line[:2] == place", "if False"),
    ),
}

HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "what_was_superseded_is_copied": (
        "copies",
        Change(flow, "lead", "if may.store and kept is not False and", "if may.store and"),
    ),
    "copies_are_counted_before_they_are_read": (
        "copies",
        Change(
            copies.Copies,
            "recall",
            "found, last = self._found(ask) if copy else (None, None)",
            "counted = generations(ask.counted)\n    found, last = self._found(ask) if copy else (None, None)",
        ),
    ),
}
