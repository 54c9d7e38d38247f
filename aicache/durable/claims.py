"""Idempotency keys: a unique row decides who calls, and holds what was answered.

A claim is held for HOLD seconds at a time, and prolonged as long as its caller lives: who is killed is replaced.
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone

from aicache.core.difference import departures, outline
from aicache.core.once import LIFE
from aicache.core.operations import Busy, Claimed, Pinned
from aicache.core.records import Entry, Pin
from aicache.core.tags import EVERYBODY, place
from aicache.core.turns import Led
from aicache.database import in_test, leave, on_connections_of_its_own
from aicache.durable.rows import LONGEST
from aicache.durable.writer import Writer
from aicache.errors import IdempotencyConflict
from aicache.freshness.generations import generations
from aicache.freshness.outbox import storable
from aicache.sqlite import SOON, insert, read, write
from aicache.store.leases import RENEW_EVERY, Lease, Leases
from aicache.store.payload import Unreadable, answers, pack_entry, read_entry

# A dead caller is noticed within the 10 s that are promised; and clocks may differ by some seconds.
HOLD: Final = 4 * RENEW_EVERY
SALT: Final = 16


class Claims:
    """Of one site, in one database. All methods but ``over`` are to run on a connection of their own."""

    def __init__(self, site: str, using: str, writer: Writer) -> None:
        self.site = site
        self.using = using
        self._writer = writer
        self._leases = Leases(self._prolong)
        self._over: dict[str, Future[None]] = {}  # by token, of this process's claims

    def over(self, token: str) -> Future[None] | None:
        """The end of that claim, where it is of this process."""
        return self._over.get(token)

    def claim(self, pin: Pin, *, writes: bool) -> Claimed | Pinned | Busy:
        """Raises IdempotencyConflict, and what the database does. ``writes`` False: whoever asks must not write now."""
        digest = self._digest(pin)
        while True:
            row, known = read(self.using, partial(self._look, pin, digest))
            if known is not None:
                return known
            if not writes:
                return Claimed(None, self._counted(pin))
            # Before anything is called, and before the claim is held: a count may fail.
            counted = self._counted(pin)
            token = secrets.token_hex(16)
            take = partial(self._take, pin, digest, token) if row is None else partial(self._take_over, pin, row, token)
            try:
                won = write(self.using, take, SOON)
            except Exception:  # it may be ours all the same
                self._let_go(pin, digest, token)
                raise
            if not won:
                continue  # somebody was quicker
            led = Led(token)
            if not in_test():  # another connection could not prolong what only this one sees
                self._leases.hold((digest,), led)
                self._over[token] = Future()
                weakref.finalize(led, self._is_over, token).atexit = False  # a flow may be dropped half-way
            return Claimed(led, counted)

    def settle(self, pin: Pin, claimed: Claimed, entry: Entry | None) -> None:
        """Raises what the database does."""
        token = claimed.led.token if claimed.led is not None else ""
        try:
            write(self.using, partial(self._settle, pin, token, entry), SOON)
        finally:
            self._ends(token)

    def settle_later(self, pin: Pin, claimed: Claimed, entry: Entry | None) -> None:
        """As soon as that can be done. Raises nothing."""
        token = claimed.led.token if claimed.led is not None else ""
        digest = self._digest(pin)
        if entry is None:
            if token:
                self._let_go(pin, digest, token)
        elif token or not self._is_repeated(entry, digest):
            self._writer.put(digest, entry, partial(self._settle, pin, token, entry), using=self.using)
        self._ends(token)

    def _let_go(self, pin: Pin, digest: str, token: str) -> None:
        # Beside what may wait to be written under the key.
        self._writer.put(f"{digest} {token}", None, partial(self._settle, pin, token, None), using=self.using)

    def _is_repeated(self, entry: Entry, digest: str) -> bool:
        """Whether this process has an earlier answer to write, under counts that are no older: that one stays."""
        waiting = self._writer.waiting(digest)
        return waiting is not None and (waiting.key, waiting.stamps) == (entry.key, entry.stamps)

    def _ends(self, token: str) -> None:
        self._leases.drop(token)
        self._is_over(token)

    def _is_over(self, token: str) -> None:
        """Takes no lock that anybody holds who could be interrupted by this: it is called as garbage is collected."""
        if (over := self._over.pop(token, None)) is not None:
            over.set_result(None)

    def _look(self, pin: Pin, digest: str) -> tuple[Any, Pinned | Busy | None]:
        waiting = self._writer.waiting(digest)
        row = self._rows().filter(digest=digest, expires_at__gt=timezone.now()).first()
        known = None if row is None else self._known(pin, row)
        if not isinstance(known, Pinned) and waiting is not None and self._lives(waiting, pin):
            known = Pinned(waiting)  # what this process has yet to write
        return row, known

    def _counted(self, pin: Pin) -> tuple[int, ...]:
        return read(self.using, partial(generations, pin.ask.counted))

    def _known(self, pin: Pin, row: Any) -> Pinned | Busy | None:
        """What the row has to say. None: it may be taken over."""
        is_held = row.holder and row.held_until is not None and row.held_until > timezone.now()
        if row.question != pin.ask.lineage:
            if not (row.answer or is_held):  # who used it was killed before there was an answer
                return None
            salt = bytes.fromhex(row.parts.get("salt", ""))
            raise IdempotencyConflict(pin.name, departures(row.parts.get("outline", {}), pin.question, salt))
        if row.answer == pin.ask.key and (entry := self._living(pin, row)) is not None:
            return Pinned(entry)
        if is_held:
            return Busy(row.holder, here=row.holder in self._over)
        return None

    def _living(self, pin: Pin, row: Any) -> Entry | None:
        """Other tags, or other versions of what it is made from, make it another answer: its key says so."""
        try:
            entry = read_entry(bytes(row.payload or b""))
        except Unreadable:
            return None
        return entry if self._lives(entry, pin) else None

    def _lives(self, entry: Entry, pin: Pin) -> bool:
        # After it was read: what dies between the two is then counted.
        stands = entry.stamps.generations == generations(pin.ask.counted)
        return stands and answers(entry, pin.ask) and entry.dies_at > time.time()

    def _take(self, pin: Pin, digest: str, token: str) -> bool:
        """Whether the new row is ours."""
        salt, now = secrets.token_bytes(SALT), timezone.now()
        self._rows().filter(digest=digest, expires_at__lte=now)._raw_delete(self.using)
        row = self._row(pin, digest, salt, now)
        row.holder, row.held_until = token, now + timedelta(seconds=HOLD)
        insert(type(row), [row], self.using)
        return bool(self._rows().filter(digest=digest, holder=token).exists())

    def _take_over(self, pin: Pin, row: Any, token: str) -> bool:
        now = timezone.now()
        free = _free(now)
        # As it was when it was read: meanwhile somebody may have called, and be done.
        same = self._rows().filter(free, pk=row.pk, holder=row.holder, answer=row.answer, answered_at=row.answered_at)
        if row.question != pin.ask.lineage:
            same.filter(answer="")._raw_delete(self.using)
            return False
        return bool(same.update(holder=token, held_until=now + timedelta(seconds=HOLD)))

    def _settle(self, pin: Pin, token: str, entry: Entry | None) -> None:
        digest = self._digest(pin)
        mine = self._rows().filter(digest=digest, holder=token)
        free: dict[str, Any] = {"holder": "", "held_until": None}
        if entry is None:
            if token:  # a failure is not pinned: the key is as if it had not been used
                mine.filter(answer="")._raw_delete(self.using)
                mine.update(**free)
            return
        pinned = {"answer": entry.key, "payload": pack_entry(entry), "answered_at": timezone.now()}
        if token:
            mine.update(**pinned, **free)
            return
        # Nobody was kept from calling too: the first to be written is the one that is repeated, while it lives.
        now = timezone.now()
        self._rows().filter(digest=digest, expires_at__lte=now)._raw_delete(self.using)
        left = self._rows().filter(_free(now), digest=digest, answer="")  # by who was killed
        left.exclude(question=pin.ask.lineage)._raw_delete(self.using)
        row = self._row(pin, digest, secrets.token_bytes(SALT), now)
        for name, value in pinned.items():
            setattr(row, name, value)
        insert(type(row), [row], self.using)
        standing = self._rows().filter(_free(now), digest=digest, question=pin.ask.lineage).first()
        if standing is not None and self._living(pin, standing) is None:
            same = self._rows().filter(pk=standing.pk, holder=standing.holder, answered_at=standing.answered_at)
            same.update(**pinned, **free)

    def _row(self, pin: Pin, digest: str, salt: bytes, now: datetime) -> Any:
        from aicache.models import IdempotencyKey

        ask = pin.ask
        return IdempotencyKey(
            digest=digest,
            name=storable(pin.name, LONGEST),
            owner=ask.tenant,
            tenant=storable(ask.owner, LONGEST),
            everybody=ask.tenant == EVERYBODY,
            model=storable(ask.model, LONGEST),
            question=ask.lineage,
            parts={"salt": salt.hex(), "outline": outline(pin.question, salt)},
            created_at=now,
            expires_at=now + timedelta(seconds=LIFE),
        )

    def _prolong(self, leases: Iterable[Lease]) -> list[bool]:
        """On the thread of the leases, whose connections are closed as it has done."""
        on_connections_of_its_own()
        until = timezone.now() + timedelta(seconds=HOLD)
        try:
            return write(self.using, lambda: [self._is_prolonged(*lease, until) for lease in leases], SOON)
        finally:
            leave()

    def _is_prolonged(self, names: tuple[str, ...], token: str, until: datetime) -> bool:
        return bool(self._rows().filter(digest=names[0], holder=token).update(held_until=until))

    def _digest(self, pin: Pin) -> str:
        return place("idempotency", self.site, pin.ask.tenant, pin.name)

    def _rows(self) -> Any:
        from aicache.models import IdempotencyKey

        return IdempotencyKey.objects.using(self.using)


def _free(now: datetime) -> Q:
    """Nobody is at it any more."""
    return Q(holder="") | Q(held_until=None) | Q(held_until__lte=now)
