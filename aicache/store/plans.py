"""What is asked of Redis for one question, as plans: commands that are yielded, and whose replies are sent back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from aicache.core.lineage import Lineage, before, missed
from aicache.core.operations import Finish, Seen
from aicache.core.records import CREDENTIAL_STATUSES, Ask, Before, Entry, Failure, Stamps
from aicache.store import news
from aicache.store.keys import Keys
from aicache.store.payload import Unreadable, pack_lineage, unpack_entry, unpack_lineage
from aicache.store.scripts import CAPTURE, FINISH, Plan
from aicache.store.tags import LIFE, a_stamp

# The lineage outlives its entry by this much, to tell "expired" from "new".
LINEAGE_AFTER: Final = 24 * 3600.0
# For how long a failure is told to those who began before it; as long as the SDK's jitter spreads their retries.
FAILURE_LIFE: Final = 2.0


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def look(keys: Keys, cluster: bool, ask: Ask) -> Plan:
    of_question = [keys.entry(ask), keys.lineage(ask)]
    of_site = [keys.switch, *keys.stamps(ask.tags)]
    if cluster:  # two slots, both asked at once
        (entry, lineage), (switch, *found) = yield [("MGET", *of_question), ("MGET", *of_site)]
    else:
        entry, lineage, switch, *found = yield ("MGET", *of_question, *of_site)
    now = time.time()
    values = _of(keys.epoch, found)
    present = tuple([value for value in values if value is not None])
    stamps = Stamps(present, epoch=keys.epoch) if len(present) == len(values) else None
    kept = entry_for(entry, ask)
    if kept is not None and stamps is not None and kept.stamps.stand(stamps) and kept.dies_at > now:
        return Seen(kept, stamps, enabled=switch is None)
    if kept is not None and (tag := kept.stamps.changed(ask.tags, values)) is not None:
        reason = f"invalidated:{tag}"
        stood = before(reason, kept.dies_at, now)
    else:
        reason, stood = _why(lineage, ask, now, values)
    return Seen(None, stamps, reason, enabled=switch is None, before=stood)


def capture(keys: Keys, ask: Ask, *, draw: bool = True, life: float = LIFE) -> Plan:
    """The tags' stamps, which then live for as long at least. Without ``draw``, those that are missing are ""."""
    if not ask.tags:
        return Stamps(epoch=keys.epoch)
    values = yield from CAPTURE(keys.stamps(ask.tags), a_stamp(keys) if draw else "", milliseconds(life), keys.epoch)
    return Stamps(tuple([value or "" for value in _of(keys.epoch, values)]), epoch=keys.epoch)


def finish(keys: Keys, of: Finish, message: tuple[bytes, bytes]) -> Plan:
    kind, payload = message
    ask, entry, failure = of.ask, of.entry, of.failure
    keep = of.keep
    if entry is not None and keep and ask.tags:
        # A tag that died during the call: this answer is only for those who began before. One that dies between this
        # and the next command leaves an answer behind that no reader takes.
        now: Stamps = yield from capture(keys, ask, draw=False, life=max(entry.dies_at - time.time(), LIFE))
        keep = of.stamps.stand(now)
    life = memory = 0
    lineage = b""
    if entry is not None and keep:
        # To the end of its last millisecond: readers compare dies_at, so that an entry that is gone has expired.
        life = max(milliseconds(entry.dies_at - time.time()) + 1, 0)
        lineage = pack_lineage(Lineage(entry.key, entry.dies_at, entry.stamps, ask.sources))
    if failure is not None and failure.kind != "timeout":  # who allows more time must not be told so later
        memory = milliseconds(FAILURE_LIFE)
    told = kind in (news.ANSWER, news.FAILED, news.ENDING)
    unkept = news.SUPERSEDED if kind == news.ANSWER and of.keep else kind
    wanted = [keys.lease(ask, of.stamps), keys.entry(ask), keys.lineage(ask), keys.failed(ask), keys.mark(ask)]
    reply = yield from FINISH(
        [*wanted, keys.live(ask, of.stamps)],
        *(of.token, kind if keep == of.keep else unkept, unkept, int(told), payload),
        *(life, lineage, life + milliseconds(LINEAGE_AFTER)),
        *(memory, ask.attempt, _credential(failure)),
    )
    return reply == b"ours" and keep == of.keep


def _of(epoch: str, stamps: Sequence[bytes | None]) -> list[str | None]:
    """None for each that is not of this epoch: whoever gave it may not know what was saved since."""
    known = epoch.encode()
    # Latin-1 decodes whatever somebody else may have put there.
    return [stamp.decode("latin-1") if stamp is not None and stamp.startswith(known) else None for stamp in stamps]


def entry_for(data: bytes | None, ask: Ask) -> Entry | None:
    try:
        return None if data is None else unpack_entry(data, ask)
    except Unreadable:
        return None


def _why(lineage: bytes | None, ask: Ask, now: float, stamps: Sequence[str | None]) -> tuple[str, Before | None]:
    try:
        return missed(None if lineage is None else unpack_lineage(lineage), ask, now, stamps)
    except Unreadable:
        return "unknown", None


def _credential(failure: Failure | None) -> str:
    return failure.credential if failure is not None and failure.status in CREDENTIAL_STATUSES else ""
