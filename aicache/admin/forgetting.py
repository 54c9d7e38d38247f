"""Forgetting idempotency keys in the admin: the next call under one is as if it had never been used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.models import DELETION
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aicache.admin.confirmation import GONE, MOST, Deed, DeedAdmin, confirmed, write_down
from aicache.admin.keystates import LABELS
from aicache.admin.remembered import whose
from aicache.models import IdempotencyKey

PERMISSION: Final = "aicache.forget_key"


def forget(admin: DeedAdmin, request: HttpRequest, rows: Sequence[Any]) -> HttpResponse | None:
    """Asks whether these are meant, then forgets them. None, and a message: they cannot be.

    ``rows``: annotated with their state, as ``stands``.
    """
    if not rows:
        admin.message_user(request, GONE, messages.WARNING)
        return None
    if len(rows) > MOST:
        admin.message_user(
            request, _("These are more than %(most)d keys at once. Narrow the list.") % {"most": MOST}, messages.ERROR
        )
        return None
    deed = Deed(
        "forget",
        ngettext("Forget this key?", "Forget these keys?", len(rows)),
        "idempotencykey/forget_confirmation.html",
        [("id", str(row.pk)) for row in rows],
        lambda: _shown(rows),
        lambda: _forgotten(request, rows),
    )
    return confirmed(admin, request, deed)


def _shown(rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "doomed": [(row.name, _whose(row), LABELS[row.stands]) for row in rows],
        "under_way": any(row.stands == "under_way" for row in rows),
    }


def _forgotten(request: HttpRequest, rows: Sequence[IdempotencyKey]) -> tuple[int, str]:
    using = rows[0]._state.db
    said = _("Forgotten (%(whose)s).")
    with transaction.atomic(using=using):
        IdempotencyKey.objects.using(using).filter(pk__in=[row.pk for row in rows]).delete()
        done = ((str(row.pk), row.name, said % {"whose": _whose(row)}) for row in rows)
        write_down(request, IdempotencyKey, DELETION, done)
    number = len(rows)
    told = ngettext(
        "%(number)d key is forgotten: the next call under it calls upstream again.",
        "%(number)d keys are forgotten: the next call under each calls upstream again.",
        number,
    )
    return messages.SUCCESS, told % {"number": number}


def _whose(row: IdempotencyKey) -> str:
    return whose(everybody=row.everybody, tenant=row.tenant)
