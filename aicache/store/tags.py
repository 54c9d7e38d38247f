"""The tags of a site in Redis: their stamps, and what hangs on them. Only the stamps decide about an answer."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from aicache.core.operations import Unavailable
from aicache.core.records import Ask, Entry
from aicache.core.tags import Tag
from aicache.store.address import BUDGET
from aicache.store.connections import Connections, Make
from aicache.store.keys import Keys
from aicache.store.payload import EPOCH, STAMP
from aicache.store.scripts import FREE, HANG, STAMP_AGAIN, Command, Plan

# A stamp, and what is known of a tag, outlives the last call that took it by this much, and every answer under it.
LIFE: Final = 31 * 24 * 3600.0
# Scripts and pipelines of this many keys keep a server busy for a millisecond.
BATCH: Final = 500
# Fewer answers than that on one tag are looked for one by one.
MANY: Final = 500
# What hangs on a tag is written as the place of an answer, its mark, and what was drawn at random for the tag's stamp.
PLACE: Final = 80
# Digits of a server's cursor, which is below the size of its table: what is longer, somebody else has put there.
LONGEST_CURSOR: Final = 19
DRAWN: Final = STAMP - EPOCH


def a_stamp(keys: Keys) -> str:
    return keys.epoch + secrets.token_urlsafe((STAMP - EPOCH) * 3 // 4)


class Tags:
    """What a site's signals, commands and tasks ask of Redis. All raise Unavailable."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def stamp(self, tags: Collection[Tag]) -> None:
        """Invalidates: no answer that hangs on one of these is served from now on. Takes as long whatever hangs."""
        breaker = self.connections.breaker
        try:
            try:
                self.connections.run(stamping(tags), saves=True)
            except Unavailable:
                # Where Redis was started anew this is how it is found out: a saver need not leave it pending for that.
                if not breaker.comes_back(BUDGET):
                    raise
                self.connections.run(stamping(tags), saves=True)
        except Unavailable as trouble:
            if str(trouble) == "refused" and self._forget(tags):
                return
            breaker.turn_away()
            raise

    def _forget(self, tags: Collection[Tag]) -> bool:
        """Whether a server that is full lets go of the stamps, which is as good as others: a missing one is a mismatch.

        One that does not even do that serves no answers to this process until it does: they may be dead.
        """
        try:
            self.connections.run(lambda keys, _: one("DEL", *keys.stamps(tags)), saves=True)
        except Unavailable:
            self.connections.breaker.trip(ConnectionError("it refuses to forget what died"))
            return False
        return True

    def standing(self, tags: Sequence[Tag]) -> list[bytes]:
        """How the tags stand: by this, what hung on them can be counted after they died."""
        return [stamp for batch in _batches(tags) for stamp in self._stamps([tag.digest for tag in batch])]

    def counts(self, tags: Sequence[Tag], stood: Sequence[bytes] | None = None) -> list[int]:
        """How many answers hang on each tag; from MANY on about, with those that died early and were not freed yet.

        ``stood``: counts what hung on them when they stood so, without what was freed or made anew since.
        """
        found: list[int] = []
        for batch in _batches(tags):
            digests = [tag.digest for tag in batch]
            found += self._counts(digests, stood[len(found) :] if stood is not None else self._stamps(digests))
        return found

    def names(self) -> Iterator[tuple[Tag, str]]:
        """The tags in use, each with its owner for people."""
        cursor, now = 0, time.time()
        while True:
            cursor, found = self._scanned(lambda keys: keys.names, cursor)
            for member, until in found:
                if until > now:
                    name, tenant, owner = json.loads(member)
                    yield Tag(name, tenant), owner
            if not cursor:
                return

    def reclaim(self, most: int) -> tuple[int, bool]:
        """Frees the memory of answers that died of their tags. → how many, and whether none are left.

        Looks at about ``most`` answers, whether they can be freed, live, or have been replaced.
        """
        freed = looked = 0
        while looked < most:
            popped: bytes | None = self._ask(lambda keys: ("SPOP", keys.dead))
            if popped is None:
                return freed, True
            more, notes = self._reclaim(popped.decode("latin-1"), most - looked)
            freed, looked = freed + more, looked + notes + 1
        return freed, False

    def _reclaim(self, dead: str, most: int) -> tuple[int, int]:
        """Of one tag, from where somebody stopped. → how many were freed, and how many were looked at."""
        digest, _, place = dead.partition(":")
        cursor = int(place) if place.isdecimal() and len(place) <= LONGEST_CURSOR else 0
        freed = looked = 0
        done = False
        try:
            while not done and looked < most:
                following, found = self._scanned(lambda keys: keys.hanging(digest), cursor, most)
                freed += self._free(digest, [member for member, _ in found])
                looked += len(found)
                cursor, done = following, not following
        finally:
            if not done:  # for the next time; where the process is killed, what is left dies of age
                left = f"{digest}:{cursor}" if cursor else digest
                with contextlib.suppress(Unavailable):
                    self._ask(lambda keys: ("SADD", keys.dead, left))
        return freed, looked

    def _counts(self, digests: Sequence[str], stamps: Sequence[bytes]) -> list[int]:
        now = time.time()
        noted = self._each(lambda keys: [("ZCOUNT", keys.hanging(digest), now, "+inf") for digest in digests])
        counts = [number if stamp else 0 for number, stamp in zip(noted, stamps, strict=False)]
        few = [at for at, number in enumerate(counts) if 0 < number < MANY]
        for portion in _portions(few, noted):
            alive = self._alive({digests[at]: stamps[at] for at in portion}, now)
            for at in portion:
                counts[at] = alive[digests[at]]
        return counts

    def _alive(self, tags: dict[str, bytes], now: float) -> Counter[str]:
        """How many answers truly hang on each of these digests under its stamp."""
        listed = self._each(
            lambda keys: [("ZRANGEBYSCORE", keys.hanging(tag), now, "+inf", "LIMIT", 0, MANY) for tag in tags]
        )
        noted = [(tag, note) for tag, notes in zip(tags, listed, strict=True) for note in notes]
        standing = [(tag, note) for tag, note in noted if note[-DRAWN:] == tags[tag]]
        # The mark, as in lua/free.lua: another answer may stand in its place by now.
        marks = self._each(lambda keys: [("GETRANGE", _entry(keys, note), 6, 21) for _, note in standing])
        return Counter(tag for (tag, note), mark in zip(standing, marks, strict=True) if mark == note[PLACE:-DRAWN])

    def _free(self, digest: str, members: list[bytes]) -> int:
        (stands,) = self._stamps([digest])
        dead = [member for member in members if member[-DRAWN:] != stands]
        if not dead:
            return 0

        def free(keys: Keys, _: bool) -> Plan:
            commands = [FREE.commands([_entry(keys, member)], member[PLACE:-DRAWN]) for member in dead]
            try:
                freed: list[int] = yield [brief for brief, _ in commands]
            except NoScriptError:
                freed = yield [whole for _, whole in commands]
            yield ("ZREM", keys.hanging(digest), *dead)
            return sum(freed)

        count: int = self.connections.run(free)
        return count

    def _scanned(
        self, key: Callable[[Keys], str], cursor: int, most: int = BATCH
    ) -> tuple[int, list[tuple[bytes, float]]]:
        """Some members of a sorted set, and where to go on; 0: nowhere."""
        count = min(most, BATCH)
        found: tuple[int, list[tuple[bytes, float]]] = self._ask(
            lambda keys: ("ZSCAN", key(keys), cursor, "COUNT", count)
        )
        return found

    def _stamps(self, digests: Sequence[str]) -> list[bytes]:
        """What was drawn at random for each; b"" where nothing was, on this server."""

        def get(keys: Keys, _: bool) -> Plan:
            values: list[bytes | None] = yield ("MGET", *(keys.stamp(digest) for digest in digests))
            epoch = keys.epoch.encode()
            return [value[EPOCH:] if value is not None and value.startswith(epoch) else b"" for value in values]

        found: list[bytes] = self.connections.run(get)
        return found

    def _each(self, commands: Callable[[Keys], list[Command]]) -> list[Any]:
        replies: list[Any] = self.connections.run(lambda keys, _: each(commands(keys)))
        return replies

    def _ask(self, command: Callable[[Keys], Command]) -> Any:
        return self.connections.run(lambda keys, _: one(*command(keys)))


def stamping(tags: Collection[Tag]) -> Make:
    """The plan of an invalidation."""
    everything = list(tags)

    def make(keys: Keys, _: bool) -> Plan:
        for tag in everything:
            if (answer := tag.answer) is not None:
                yield ("DEL", keys.entry_of(*answer), keys.mark_of(*answer))
        for batch in _batches([tag for tag in everything if tag.answer is None]):
            digests = (tag.digest for tag in batch)
            yield from STAMP_AGAIN([keys.dead, *keys.stamps(batch)], a_stamp(keys), int(LIFE * 1000), *digests)

    return make


def hang(keys: Keys, ask: Ask, entry: Entry | None) -> Plan:
    """Notes on what an answer hangs that has just been stored."""
    if entry is None:
        return
    now, life = time.time(), max(entry.dies_at - time.time(), LIFE)
    place = bytes.fromhex(ask.tenant + ask.lineage + ask.key) + entry.stamps.mark
    names: list[Any] = []
    for tag in ask.tags:
        names += [entry.dies_at, json.dumps([tag.name, tag.tenant, ask.owner if tag.tenant == ask.tenant else ""])]
    commands = [
        HANG.commands([keys.hanging(tag.digest)], now, int(life * 1000), entry.dies_at, place + stamp[EPOCH:].encode())
        for tag, stamp in zip(ask.tags, entry.stamps.values, strict=True)
    ]
    commands.append(HANG.commands([keys.names], now, int(life * 1000), "GT", *names))
    try:
        yield [brief for brief, _ in commands]
    except NoScriptError:
        yield [whole for _, whole in commands]


def one(*command: Any) -> Plan:
    return (yield command)


def each(commands: list[Command]) -> Plan:
    return (yield commands) if commands else []


def _batches(tags: Sequence[Tag]) -> Iterator[Sequence[Tag]]:
    for at in range(0, len(tags), BATCH):
        yield tags[at : at + BATCH]


def _portions(places: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places whose sizes together are BATCH at most, or one alone."""
    portion: list[int] = []
    size = 0
    for at in places:
        if portion and size + sizes[at] > BATCH:
            yield portion
            portion, size = [], 0
        portion.append(at)
        size += sizes[at]
    if portion:
        yield portion


def _entry(keys: Keys, member: bytes) -> str:
    """The answer's key. Each is asked for by itself: on a cluster they are not on one slot."""
    name = member[:PLACE].hex()
    return keys.entry_of(name[:32], name[32:96], name[96:])
