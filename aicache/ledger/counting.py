"""The door of the ledger: what the seam tells it of each call. Nothing in here raises, whatever is the matter."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass

from aicache.conf import Settings, get_settings
from aicache.core.callinfo import CallInfo
from aicache.core.records import Served
from aicache.core.usage import PromptUse
from aicache.database import BUDGET, at_exit
from aicache.ledger.flusher import Flusher
from aicache.ledger.place import Owner, Place
from aicache.ledger.prices import Price
from aicache.ledger.request import Request
from aicache.sqlite import is_open_here
from aicache.store.line import ended as ends
from aicache.store.line import loop_runs
from aicache.tenants import Tenant

logger = logging.getLogger("aicache.ledger")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was counted as it went out. It is to end in ``not_sent``, ``failed`` or ``charged``: until then
    it is missed where its process is killed."""

    flusher: Flusher
    request: Request

    @property
    def is_ours(self) -> bool:
        """One that its parent had counted before a fork is no child's business."""
        return self.flusher is get_flusher()


def whose(tenant: Callable[[], Tenant | None]) -> Tenant | None:
    """What the site says, for a call that does not depend on it: where the site fails, nobody's."""
    try:
        return tenant()
    except Exception:  # noqa: BLE001 - whatever the site's own code raises
        return None


def began(call: str, place: Place) -> None:
    """An attempt of a call is under way. ``call`` is the same for all attempts of one."""
    try:
        get_flusher().counts.began(call, place)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def ended(
    call: str,
    place: Place,
    info: CallInfo,
    served: Served | None = None,
    *,
    question: str = "",
    retried: bool = False,
    site: Callable[[Settings], str],
) -> None:
    """``question``: the same for all answers to it. ``retried``: in the place of an earlier attempt that failed.
    ``site``: says what keeps sites apart."""
    try:
        flusher = get_flusher()
        entry = None if served is None or served.own is not None else served.entry
        flusher.counts.ended(call, place, info, served, question, retried=retried)
        if entry is not None:
            flusher.hits.note(entry.tenant, entry.key, site)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def sent(place: Place) -> Sent | None:
    """A request is about to go out. Waits, for BUDGET at most, until a process that is killed meanwhile is missed."""
    try:
        flusher = get_flusher()
        going_out = Sent(flusher, flusher.counts.sent(place))
        announced = flusher.announcing()
        if announced is None or is_open_here(get_settings().database):
            return going_out
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)
        return None
    with _taken_back(going_out):
        if not wait([announced], BUDGET).done:
            flusher.is_slow()
    return going_out


async def asent(place: Place) -> Sent | None:
    """As ``sent``, in a task."""
    try:
        flusher = get_flusher()
        going_out = Sent(flusher, flusher.counts.sent(place))
        announced = flusher.announcing()
        if announced is None or not loop_runs():
            return going_out
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)
        return None
    with _taken_back(going_out):
        await ends(announced, BUDGET)
        if not announced.done():
            flusher.is_slow()
    return going_out


def answered(going_out: Sent | None) -> None:
    """Upstream has, or its stream has begun."""
    try:
        if going_out is not None and going_out.is_ours:
            going_out.flusher.counts.answered(going_out.request)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def charged(going_out: Sent | None, price: Price) -> None:
    """For upstream's answer. What is said of it first counts."""
    try:
        if going_out is not None and going_out.is_ours:
            going_out.flusher.counts.charged(going_out.request, price)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def failed(going_out: Sent | None) -> None:
    """No answer came of it."""
    try:
        if going_out is not None and going_out.is_ours:
            going_out.flusher.counts.failed(going_out.request)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def prompted(place: Place, use: PromptUse) -> None:
    """What a call has done at the provider's prompt cache."""
    try:
        get_flusher().counts.prompted(place, use)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


def judged(*, owner: str, tenant: str, everybody: bool, model: str, policy: str, wrong: bool) -> None:
    """Somebody has checked an answer of the cache. ``owner`` is a digest, ``tenant`` the same for people."""
    try:
        place = Place.of(Owner(owner, tenant, everybody), model, policy)
        get_flusher().counts.judged(place, wrong=wrong)
    except Exception as error:  # noqa: BLE001 - told, and the page's reader has what was asked for
        _tell(error)


def not_sent(going_out: Sent | None) -> None:
    """It never left."""
    try:
        if going_out is not None and going_out.is_ours:
            going_out.flusher.counts.not_sent(going_out.request)
    except Exception as error:  # noqa: BLE001 - told, and no caller's
        _tell(error)


@contextmanager
def _taken_back(going_out: Sent) -> Iterator[None]:
    """Where whoever waits is cancelled, or interrupted."""
    try:
        yield
    except BaseException:
        not_sent(going_out)
        raise


def _tell(error: Exception) -> None:
    """Once: where one call could not be counted, others cannot be either."""
    global _told
    if not _told:
        logger.error("calls are not counted", exc_info=error)
    _told = True


_told = False
_flusher: Flusher | None = None
_making = threading.RLock()


def get_flusher() -> Flusher:
    """This process's."""
    global _flusher
    if (found := _flusher) is not None:
        return found
    with _making:
        if _flusher is None:
            _flusher = Flusher()
            at_exit(close)
        return _flusher


def close() -> None:
    """Writes what is not written yet, in two seconds at most: for what ends a process in a way of its own."""
    if _flusher is not None:
        _flusher.close()


@contextmanager
def counts_of_its_own() -> Iterator[Flusher]:
    """Nothing is seen in here of what this process has counted before; nor does that see what is counted in here."""
    global _flusher
    before, _flusher = _flusher, Flusher()
    try:
        yield _flusher
    finally:
        _flusher.close(for_good=True)
        _flusher = before


def _forget_after_fork() -> None:
    """What the parent has counted, the parent writes."""
    global _flusher, _making, _told
    _flusher, _making, _told = None, threading.RLock(), False


os.register_at_fork(after_in_child=_forget_after_fork)
