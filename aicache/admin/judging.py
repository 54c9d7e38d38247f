"""Answers that somebody has checked: a wrong one is retired, a right one goes on living, and each counts once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from aicache.admin.briefs import briefs
from aicache.admin.confirmation import Deed, DeedAdmin, confirmed, is_confirmed, write_down
from aicache.admin.content import may_read
from aicache.admin.entrypurge import by_owner, delete, refused, whose_of
from aicache.admin.joints import sentences
from aicache.admin.purging import Words, purged
from aicache.freshness import transactions
from aicache.ledger import counting
from aicache.models import CacheEntry
from aicache.purge import Outcome

PERMISSION: Final = "aicache.mark_wrong"
WORDS: Final[Words] = {
    Outcome.IN_FORCE: ngettext_lazy(
        "%(number)d answer was marked as wrong: it is not served any more.",
        "%(number)d answers were marked as wrong: none of them is served any more.",
        "number",
    ),
    Outcome.UNCOMMITTED: ngettext_lazy(
        "%(number)d answer is marked as wrong when this request has ended.",
        "%(number)d answers are marked as wrong when this request has ended.",
        "number",
    ),
    Outcome.PENDING: ngettext_lazy(
        "%(number)d answer is marked as wrong; that it dies is written, and pending: Redis is out of reach. A drain "
        "applies it.",
        "%(number)d answers are marked as wrong; that they die is written, and pending: Redis is out of reach. A drain "
        "applies it.",
        "number",
    ),
}


def judge(admin: DeedAdmin, request: HttpRequest, rows: Sequence[CacheEntry], *, wrong: bool) -> HttpResponse | None:
    """Asks whether these are meant, then marks them. None, and a message: they cannot be.

    What has taken the place of an answer that was shown is another answer, which nobody has judged.
    """
    if is_confirmed(request):
        shown = set(request.POST.getlist("made"))
        rows = [row for row in rows if version(row) in shown]
    if refused(admin, request, rows):
        return None
    if wrong:
        title = ngettext("Mark this answer as wrong?", "Mark these answers as wrong?", len(rows))
    else:
        title = ngettext("Mark this answer as right?", "Mark these answers as right?", len(rows))
    deed = Deed(
        "wrong" if wrong else "right",
        title,
        f"cacheentry/{'wrong' if wrong else 'right'}_confirmation.html",
        [*(("id", str(row.pk)) for row in rows), *(("made", version(row)) for row in rows)],
        lambda: {"doomed": list(zip(rows, briefs(rows, words=may_read(request)), map(whose_of, rows), strict=True))},
        lambda: retired(request, rows) if wrong else accepted(request, rows),
        stays=not wrong,
    )
    return confirmed(admin, request, deed)


def version(row: CacheEntry) -> str:
    """Names the very answer that a row holds now."""
    return f"{row.pk} {row.created_at.isoformat()}"


def retired(request: HttpRequest, rows: Sequence[CacheEntry]) -> tuple[int, str]:
    """As a purge of each, and counted where it was there to be retired."""

    def retire() -> None:
        standing = _locked(rows)
        delete(request, standing, _("Marked as wrong (%(whose)s)."))
        _count(standing, wrong=True)

    return purged(request, by_owner(rows), WORDS, also=retire, how="marked as wrong")


def accepted(request: HttpRequest, rows: Sequence[CacheEntry]) -> tuple[int, str]:
    with transaction.atomic(using=rows[0]._state.db):
        standing = _locked(rows)
        before = _marked(standing)
        fresh = [row for row in standing if row.pk not in before]
        said = _("Marked as right (%(whose)s).")
        write_down(
            request, CacheEntry, CHANGE, ((str(row.pk), str(row), said % {"whose": whose_of(row)}) for row in fresh)
        )
        _count(fresh, wrong=False)
    told = []
    if fresh:
        told.append(
            ngettext("%(number)d answer was marked as right.", "%(number)d answers were marked as right.", len(fresh))
            % {"number": len(fresh)}
        )
    if again := len(rows) - len(fresh):
        told.append(
            ngettext(
                "%(number)d answer had been marked as right before, and is not counted again.",
                "%(number)d answers had been marked as right before, and are not counted again.",
                again,
            )
            % {"number": again}
        )
    return messages.SUCCESS if fresh else messages.INFO, sentences(*told)


def last_mark(row: CacheEntry) -> LogEntry | None:
    """Who last marked the answer that this row holds now as right."""
    marks = _marks([row]).filter(action_time__gte=row.created_at)
    return marks.select_related("user").order_by("-action_time").first()


def _locked(rows: Sequence[CacheEntry]) -> list[CacheEntry]:
    """Those that still hold the same answer, and whom nobody else marks in this moment."""
    using = rows[0]._state.db or ""
    transactions.lock(CacheEntry, using)
    those = CacheEntry.objects.using(using).filter(pk__in=[row.pk for row in rows])
    standing = dict(those.order_by("pk").select_for_update().values_list("pk", "created_at"))
    return [row for row in rows if standing.get(row.pk) == row.created_at]


def _marked(rows: Sequence[CacheEntry]) -> set[int]:
    """Of which the admin's log says that the answer that is there now was marked as right."""
    made = {str(row.pk): row.created_at for row in rows}
    marks = _marks(rows).values_list("object_id", "action_time")
    return {int(pk) for pk, at in marks if pk is not None and at >= made[pk]}


def _marks(rows: Iterable[CacheEntry]) -> QuerySet[LogEntry]:
    """Nothing else is written down of an entry as a change."""
    kind = ContentType.objects.get_for_model(CacheEntry)
    ids = [str(row.pk) for row in rows]
    return LogEntry.objects.filter(content_type=kind, object_id__in=ids, action_flag=CHANGE)


def _count(rows: Sequence[CacheEntry], *, wrong: bool) -> None:
    """When the transaction is committed: what was rolled back was marked by nobody."""

    def count() -> None:
        for row in rows:
            counting.judged(
                owner=row.owner,
                tenant=row.tenant,
                everybody=row.everybody,
                model=row.model,
                policy=row.policy,
                wrong=wrong,
            )

    if rows:
        transaction.on_commit(count, using=rows[0]._state.db, robust=True)
