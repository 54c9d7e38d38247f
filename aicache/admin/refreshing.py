"""Having an answer made anew: the site's own client asks once more, in the scope that it was asked in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from django.contrib import messages
from django.contrib.admin.models import ADDITION
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aicache.admin.answers import parsed
from aicache.admin.briefs import briefs, seen
from aicache.admin.confirmation import GONE, Deed, DeedAdmin, confirmed, write_down
from aicache.admin.content import may_read
from aicache.admin.entrypurge import whose_of
from aicache.admin.facts import named_owner
from aicache.admin.figures import dollars
from aicache.admin.states import State, states
from aicache.calls import Calls
from aicache.conf import get_settings
from aicache.context import scope
from aicache.errors import ArgumentError, TenantMismatch
from aicache.frame import OUTSIDE, resumed
from aicache.freshness.family import everyone
from aicache.freshness.registry import source_of
from aicache.models import CacheEntry
from aicache.tenants import Tenant

logger = logging.getLogger("aicache")

PERMISSION: Final = "aicache.refresh_entry"
LONGEST: Final = 300  # characters of an error
HOW_IT_TRAVELS: Final = "stream"
"""The field of a request that only says that, and by which a client gives back an answer that nobody has read yet."""
STANDING: Final = ("living", "expired")
NO_REQUEST: Final = gettext_lazy("Its request is not kept, or was no message for Claude: it cannot be asked again.")
NO_OWNER: Final = gettext_lazy("Whose it is, is not known by name: it cannot be asked again.")
DEAD: Final = gettext_lazy(
    "It does not stand any more. What it was made from may have changed, and its request would bring back the old."
)
CHANGED: Final = gettext_lazy(
    "A source of it has changed, is gone, or cannot be found again: its request is out of date."
)


class Refused(Exception):
    def __init__(self, why: Promise) -> None:
        super().__init__(str(why))


def is_offered(row: CacheEntry, state: State) -> bool:
    """As far as the row alone says."""
    return state.word in STANDING and _is_askable(row)


def _is_askable(row: CacheEntry) -> bool:
    return get_settings().refresh is not None and row.circumstances is not None and _request(row) is not None


def refresh(admin: DeedAdmin, request: HttpRequest, rows: Sequence[CacheEntry]) -> HttpResponse | None:
    """Asks whether it is meant, then has the one row's answer made anew. None, and a message: it cannot be."""
    if len(rows) != 1:
        admin.message_user(request, GONE, messages.WARNING)
        return None
    row = rows[0]
    try:
        _refuse(row)
    except Refused as why:
        admin.message_user(request, str(why), messages.ERROR)
        return None
    deed = Deed(
        "refresh",
        _("Have this answer made anew?"),
        "cacheentry/refresh_confirmation.html",
        [("id", str(row.pk))],
        lambda: {
            "doomed": [(row, *briefs([row], words=may_read(request)), whose_of(row))],
            "cost": None if row.cost_usd is None else dollars(row.cost_usd),
        },
        lambda: _refreshed(request, row),
    )
    return confirmed(admin, request, deed)


def _refuse(row: CacheEntry) -> None:
    """Raises Refused for what needs no look at the site's own rows."""
    if not _is_askable(row):
        raise Refused(NO_REQUEST)
    if _owner(row) is None:
        raise Refused(NO_OWNER)
    (state,) = states([row], [seen(bytes(row.payload))])
    if state.word not in STANDING:
        raise Refused(DEAD)


def _request(row: CacheEntry) -> dict[str, Any] | None:
    body = None if row.request is None else parsed(row.request)
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return None
    return {name: value for name, value in body.items() if name != HOW_IT_TRAVELS}


def _owner(row: CacheEntry) -> Tenant | None:
    return named_owner(row, row.owner.__eq__)


def _refreshed(request: HttpRequest, row: CacheEntry) -> tuple[int, str]:
    calls, error, words = Calls(), "", ""
    try:
        with resumed(OUTSIDE), _scope(row) as calls:
            act: Any = get_settings().refresh
            act(_request(row), tenant=_owner(row), entry=row)
    except Refused as why:
        return messages.ERROR, str(why)
    except Exception as raised:
        logger.warning('AICACHE["REFRESH"] failed', exc_info=True)
        error = type(raised).__name__
        words = f": {raised}"[:LONGEST]
    level, told = _ended(row, calls, error)
    write_down(request, CacheEntry, ADDITION, [(str(row.pk), str(row), _("Asked again: %(told)s") % {"told": told})])
    # It may quote what was asked; and who reads the history is not who asked.
    return _ended(row, calls, error + words) if may_read(request) else (level, told)


def _scope(row: CacheEntry) -> scope:
    """As the answer was asked for. Raises Refused."""
    given: dict[str, Any] = dict(row.circumstances or {})
    settings = get_settings()
    try:
        return scope(
            tenant=None if settings.single_tenant else _owner(row),
            locale=given.get("locale"),
            tags=given.get("tags", ()),
            sources=[_source(label, version) for label, version in row.sources],
            vary=given.get("vary", ()),
            variant=given.get("variant"),
            policy=row.policy if row.policy in settings.policies else None,
            refresh=True,
        )
    except (ArgumentError, TenantMismatch) as error:
        raise Refused(CHANGED) from error


def _source(label: str, version: str) -> Any:
    """The row of that label, if it is as it was."""
    name, _colon, pk = label.partition(":")
    registered = {one.label: one for one in everyone()}.get(name)
    if registered is None:
        raise Refused(CHANGED)
    try:
        instance = registered.model._base_manager.get(pk=pk)
        source = source_of(instance)
        is_same = (source.label, source.version()) == (label, version)
    except (ObjectDoesNotExist, ValidationError, ValueError, TypeError) as error:
        raise Refused(CHANGED) from error
    if not is_same:
        raise Refused(CHANGED)
    return instance


def _ended(row: CacheEntry, calls: Calls, error: str) -> tuple[int, str]:
    """→ the level and the words of what is to be said."""
    last = calls.last
    if last is None:
        if error:
            return messages.ERROR, _("No call was made: %(error)s") % {"error": error}
        return messages.WARNING, _('AICACHE["REFRESH"] made no call that goes through the cache.')
    ended = " ".join(filter(None, (last.status, last.reason and f"({last.reason})")))
    if error or last.status == "error":
        return messages.ERROR, _("The call ended as %(ended)s: %(error)s") % {"ended": ended, "error": error or "?"}
    if last.status != "miss" or not last.stored:
        told = _("The call ended as %(ended)s, and what it brought was not kept: the answer stands as it was.")
        return messages.WARNING, told % {"ended": ended}
    if last.key != row.key:
        told = _(
            "The call ended as %(ended)s. It was another question to the cache, whose answer is kept under %(key)s: "
            "this one stands as it was. Address, headers or fields of the request are not those that it was asked with."
        )
        return messages.WARNING, told % {"ended": ended, "key": last.key[:12]}
    return messages.SUCCESS, _("The call ended as %(ended)s: the new answer has taken this one's place.") % {
        "ended": ended
    }
