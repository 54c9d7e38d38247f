"""What it costs that tags die: what the copies of the answers that hang on them cost to make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aicache.admin.deaths import Death, last_deaths
from aicache.admin.figures import NANO, number, usd
from aicache.admin.hanging import hanging_on
from aicache.conf import get_settings, site
from aicache.core.tags import EVERYBODY, Tag, members, place
from aicache.models import CacheEntry
from aicache.store.tags import MANY

MOST: Final = 10_000
"""Copies that are looked at; where there are more, what is told is the least."""
AT_ONCE: Final = 900
"""Digests in one query: an old SQLite takes no more than 999."""


@dataclass(slots=True)
class Loss:
    """``unpriced``: so many of the copies have no known price. ``uncopied``: so many answers at least have no copy."""

    copies: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    uncopied: int = 0
    is_whole: bool = True

    def add(self, cost: Decimal | None) -> None:
        self.copies += 1
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost

    @property
    def money(self) -> str:
        """Nothing is known of answers without a price: they are not free."""
        if self.copies == self.unpriced:
            return "–"
        told = usd(int(self.cost * NANO))
        return told if self.is_whole else _("at least %(dollars)s") % {"dollars": told}

    @property
    def note(self) -> str:
        """What the money is of."""
        copies = ngettext("%(number)s copy", "%(number)s copies", self.copies)
        words = [(copies if self.is_whole else _("at least %(number)s copies")) % {"number": number(self.copies)}]
        if self.unpriced:
            unpriced = ngettext("%(number)s of unknown price", "%(number)s of unknown price", self.unpriced)
            words.append(unpriced % {"number": number(self.unpriced)})
        if self.uncopied:
            words.append(
                ngettext("%(number)s answer without a copy", "%(number)s answers without a copy", self.uncopied)
                % {"number": number(self.uncopied)}
            )
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Losses:
    """``each``: of each tag. ``total``: of all of them, where an answer that hangs on two counts once."""

    each: Sequence[Loss]
    total: Loss


def losses(tags: Sequence[Tag], answers: Sequence[int | None]) -> Losses | None:
    """None: the database keeps no copies. ``answers``: how many hang on each, as ``purge.sizes`` has them.

    Of the copies that have not expired, and were made since their tag last died, or everybody's or their tenant's of
    that name; whether one of another name has ended them is not asked. One query that reads the table, and one for each
    database, however many tags there are.
    """
    settings = get_settings()
    if not settings.durable:
        return None
    wanted = {tag.digest: Loss() for tag in tags}
    total, here = Loss(), site(settings)
    found = list(_copies(tags, settings.database)[: MOST + 1])
    died = _died(tags, {row[0] for row in found})
    for owner, key, digest, named, cost, made in found[:MOST]:
        if place("entry", here, owner, key) != digest:
            continue  # another site's, or of a namespace before
        hit = [
            wanted[tag.digest]
            for tag in {Tag(name, whose) for name in named for whose in (owner, EVERYBODY)}
            if tag.digest in wanted and not _is_dead(tag.name, owner, named, made, died)
        ]
        for loss in hit:
            loss.add(cost)
        if hit:
            total.add(cost)
    for tag, number_of in zip(tags, answers, strict=True):
        loss = wanted[tag.digest]
        if number_of is not None and number_of < MANY:
            loss.uncopied = max(number_of - loss.copies, 0)
        loss.is_whole = len(found) <= MOST
    total.is_whole = len(found) <= MOST
    return Losses([wanted[tag.digest] for tag in tags], total)


def _copies(tags: Sequence[Tag], using: str) -> Any:
    rows = CacheEntry.objects.using(using).filter(expires_at__gt=timezone.now())
    owners = {tag.tenant for tag in tags}
    if not owners & {EVERYBODY, ""}:  # "": whose it is, is known by its digest alone
        rows = rows.filter(owner__in=owners)
    rows = hanging_on(rows, sorted({tag.name for tag in tags}))
    return rows.order_by().values_list("owner", "key", "digest", "tags", "cost_usd", "created_at")


def _died(tags: Sequence[Tag], owners: set[str]) -> dict[str, Death]:
    """When what the copies hang on by these names last died. Of too many owners, their own tags are left out."""
    digests = {tag.digest for tag in tags}
    digests |= {kin.digest for tag in tags for kin in _kin(tag.name, EVERYBODY)}
    own = {kin.digest for tag in tags for owner in owners for kin in _kin(tag.name, owner)}
    return last_deaths(digests | own if len(digests | own) <= AT_ONCE else digests)


def _kin(name: str, owner: str) -> Iterator[Tag]:
    """What dies by that name, or with each row of a model that it is the label of."""
    for each in (name, members(name)):
        yield Tag(each, owner)
        yield Tag(each, EVERYBODY)


def _is_dead(name: str, owner: str, named: Sequence[str], made: Any, died: dict[str, Death]) -> bool:
    last = (died.get(kin.digest) for kin in _kin(name, owner) if kin.name in named)
    return any(made <= death.at for death in last if death is not None)
