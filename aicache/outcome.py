"""The one door by which it is told how a call ended: to its scopes' ``Calls``, the ledger, its span, the log, the site.

Nothing in here raises, whatever a receiver does; and what nobody looks at is not made.
"""

from __future__ import annotations

import _thread
import logging
from contextlib import suppress
from typing import Any, Final, Protocol

from opentelemetry.trace import Span

from aicache import journal
from aicache.conf import site
from aicache.core.callinfo import CallInfo
from aicache.core.records import Ask, Served
from aicache.core.tags import EVERYBODY
from aicache.errors import reason_of
from aicache.frame import Frame
from aicache.ledger import counting
from aicache.ledger.place import Place
from aicache.signals import Event, Untold, answer_stored, asettle, cache_hit, cache_missed, call_ended, settle, soon
from aicache.span import mark
from aicache.tenants import GLOBAL, named

logger = logging.getLogger("aicache")

End = Served | BaseException
"""How an attempt ended: with what was served, or what was raised."""

HIT: Final = (cache_hit, call_ended)
HEARD: Final[dict[str, tuple[Event, ...]]] = {
    "hit": HIT,
    "stale": HIT,
    "semantic": HIT,
    "coalesced": HIT,
    "miss": (cache_missed, call_ended),
}
OTHERS: Final = (call_ended,)


class Made(Protocol):
    """One attempt of a call. ``call``: the same for all of its attempts. ``place``: what it is counted under. ``ask``:
    None where it passes the cache by. ``span``: where it is its own."""

    @property
    def call(self) -> str: ...
    @property
    def frame(self) -> Frame: ...
    @property
    def place(self) -> Place: ...
    @property
    def ask(self) -> Ask | None: ...
    @property
    def names(self) -> frozenset[str]: ...
    @property
    def span(self) -> Span | None: ...
    @property
    def is_retry(self) -> bool: ...
    def goes_on(self, end: End) -> bool:
        """Whether another attempt follows one that has failed so, as far as can be known."""


def began(made: Made) -> None:
    """An attempt is under way."""
    counting.began(made.call, made.place)


def raised(made: Made, error: BaseException) -> None:
    """Neither an answer nor an error of upstream's has ended it: another middleware of the client has, for one."""
    ended(made, failed(made, error), error)


async def araised(made: Made, error: BaseException) -> None:
    """Who is cancelled, say, is not kept by receivers that it would have to await."""
    left = ending(made, failed(made, error), error)
    if isinstance(error, Exception):
        await asettle(left)
    else:
        soon(left)


def failed(made: Made, error: BaseException) -> CallInfo:
    return CallInfo("error", reason_of(error), made.ask.key if made.ask else "", tags=made.names)


def begun(made: Made, info: CallInfo) -> None:
    """A stream is handed to its caller: how the call ends will be told."""
    made.frame.record(made.call, info)
    _mark(made, info)


def ended(made: Made, info: CallInfo, end: End) -> None:
    """An attempt has ended; its call too, unless it goes on."""
    settle(ending(made, info, end))


async def aended(made: Made, info: CallInfo, end: End) -> None:
    await asettle(ending(made, info, end))


def ending(made: Made, info: CallInfo, end: End, *, is_last: bool = False) -> Untold:
    """As ``ended``, but for the async receivers. ``is_last``: it does not go on."""
    served = end if isinstance(end, Served) else None
    made.frame.record(made.call, info)
    question = "" if made.ask is None else made.ask.lineage
    counting.ended(made.call, made.place, info, served, question=question, retried=made.is_retry, site=site)
    try:
        _mark(made, info)
        heard = _heard(info, served)
        if not heard and not journal.is_open():
            return []
        if info.status == "error" and not is_last and made.goes_on(end):
            return []
        if isinstance(end, GeneratorExit):  # nobody drives it any more: who collects it may hold any lock
            with suppress(RuntimeError):  # the interpreter ends
                _thread.start_new_thread(lambda: settle(_telling(made, info, None, heard)), ())
            return []
        return _telling(made, info, served, heard)
    except Exception:
        logger.exception("how a call ended is not told")
        return []


def renewed(ask: Ask, served: Served | None) -> None:
    """A renewal in the background has ended, which is no call of anybody's."""
    settle(_renewing(ask, served))


async def arenewed(ask: Ask, served: Served | None) -> None:
    await asettle(_renewing(ask, served))


def _heard(info: CallInfo, served: Served | None) -> list[Event]:
    heard = [event for event in HEARD.get(info.status, OTHERS) if event.is_heard]
    if info.stored and served is not None and served.own is not None and answer_stored.is_heard:
        heard.insert(0, answer_stored)
    return heard


def _telling(made: Made, info: CallInfo, served: Served | None, heard: list[Event]) -> Untold:
    tenant, model, policy = made.place
    told: dict[str, Any] = {"info": info, "tenant": named(tenant), "model": model, "policy": policy}
    if journal.is_open():
        journal.write(**told)
    left: Untold = []
    for event in heard:
        more = _kept(info, served) if event is answer_stored and served is not None else {}
        left += event.begin(**told, **more)
    return left


def _renewing(ask: Ask, served: Served | None) -> Untold:
    if served is None or not served.stored or served.own is None or not answer_stored.is_heard:
        return []
    info = CallInfo.of(served, ask.key, frozenset(tag.shown for tag in ask.tags))
    whose = ask.owner or (GLOBAL if ask.tenant == EVERYBODY else "")
    told = {"info": info, "tenant": whose, "model": ask.model, "policy": ask.policy.name}
    return answer_stored.begin(**told, **_kept(info, served))


def _kept(info: CallInfo, served: Served) -> dict[str, Any]:
    return {"key": info.key, "tags": info.tags, "expires_in": info.expires_in, "cost": served.given.answer.usd}


def _mark(made: Made, info: CallInfo) -> None:
    if made.span is not None and made.span.is_recording():
        mark(made.span, info, made.place.tenant, made.place.policy)
