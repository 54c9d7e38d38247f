"""What all purges of the admin have in common: they are durable or nothing, written down, and told as they ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest
from django.utils.functional import Promise

from aicache.admin.remembered import whose
from aicache.purge import Outcome, Purge, carry_out
from aicache.tenants import Everybody

Words = Mapping[Outcome, Promise]

LEVELS: Final = {
    Outcome.IN_FORCE: messages.SUCCESS,
    Outcome.UNCOMMITTED: messages.INFO,
    Outcome.PENDING: messages.WARNING,
}


def purged(
    request: HttpRequest, purges: list[Purge], words: Words, also: Callable[[], Any], *, how: str = "purged"
) -> tuple[int, str]:
    """Carries them out, all or none, and ``also`` with them. → the level and the words of what is to be said.

    ``how``: the cause that is kept begins with it, and names the user.
    """
    outcome = carry_out(purges, also, cause=f"{how} by {request.user.get_username()}")
    number = sum(len(purge.tags) for purge in purges)
    return LEVELS[outcome], str(words[outcome] % {"number": number})


def whose_of(purge: Purge) -> str:
    everybody = isinstance(purge.tenant, Everybody)
    return whose(everybody=everybody, tenant="" if everybody else str(purge.tenant or ""))
