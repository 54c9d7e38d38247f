"""How this process hears that a call it waits for has ended: one subscription, whatever it waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aicache.core.operations import News
from aicache.core.records import Entry, Failure

logger = logging.getLogger("aicache.store")

# News is kept this long for waiters who were told to wait and have not come yet: they are microseconds away.
KEEP: Final = 5.0
# While somebody waits and nothing is heard, Redis is asked this often whether it is still there.
CHECK_EVERY: Final = 1.0

TOKEN: Final = 32  # hex digits at the head of each message


Told = Entry | Failure | News


@dataclass(slots=True)
class _Flight:
    """What this process knows of one leader's call; made by who comes first, a waiter or the news."""

    news: Future[Told] = field(default_factory=Future)
    waiters: int = 0
    since: float = field(default_factory=time.monotonic)


class Ear:
    """Threads and tasks wait here on futures; a daemon thread resolves them with what is published on ``channel``.

    The lease names the ears that want to hear, and registering is part of the very script that says who leads: no news
    is lost between the two, and a publication goes to those processes only that wait for it.

    ``subscribe``: opens the subscription. ``check``: asks Redis whether it is there. ``read``: what a message means.
    ``leads``: whether the leader with a token is of this process, whose news comes without Redis too.
    """

    def __init__(
        self,
        channel: str,
        subscribe: Callable[[str], Any],
        check: Callable[[], None],
        read: Callable[[bytes], Told],
        leads: Callable[[str], bool],
    ) -> None:
        self.channel = channel
        self._subscribe = subscribe
        self._check = check
        self._read = read
        self._leads = leads
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._pubsub: Any = None
        self._closed = False

    @property
    def listening(self) -> bool:
        return self._pubsub is not None

    def listen(self) -> None:
        """Returns once the subscription stands. Raises redis errors."""
        with self._starting:
            if self.listening:
                return
            pubsub = self._subscribe(self.channel)
            self._pubsub = pubsub
            threading.Thread(target=self._hear, args=(pubsub,), name="aicache-ear", daemon=True).start()

    def wait(self, token: str, seconds: float) -> Told:
        """The news of that leader; LOOK_AGAIN where nothing is heard in time, or nothing more will be."""
        with self._waiting(token) as news:
            try:
                return news.result(seconds if self._hears(token) else 0)
            except WaitTimeout:
                return News.LOOK_AGAIN

    async def await_(self, token: str, seconds: float) -> Told:
        """As ``wait``, for a task."""
        with self._waiting(token) as news:
            heard = asyncio.wrap_future(news)
            # asyncio.wait cancels the future neither in time nor with this task: others wait on it.
            done, _ = await asyncio.wait({heard}, timeout=seconds if self._hears(token) else 0)
            return heard.result() if done else News.LOOK_AGAIN

    def _hears(self, token: str) -> bool:
        return self.listening or self._leads(token)

    def tell(self, token: str, news: Told) -> None:
        """Lets this process's waiters for that leader go."""
        with self._lock:
            flight = self._flights.setdefault(token, _Flight())
            if not flight.news.done():
                flight.news.set_result(news)

    def tell_waiting(self, token: str, news: Told) -> None:
        """As ``tell``, where nobody comes any more who is not waiting already."""
        with self._lock:
            known = token in self._flights
        if known:
            self.tell(token, news)

    def close(self) -> None:
        """Hears no more; the thread ends within CHECK_EVERY."""
        self._closed = True
        self._tell_all(lambda token: True)

    def let_go(self) -> None:
        """Lets those go who wait for other processes: nothing more will be heard from this subscription."""
        self._tell_all(lambda token: not self._leads(token))

    def _tell_all(self, which: Callable[[str], bool]) -> None:
        with self._lock:
            gone = [token for token in self._flights if which(token)]
            flights = [self._flights.pop(token) for token in gone]
        for flight in flights:
            if not flight.news.done():
                flight.news.set_result(News.LOOK_AGAIN)

    @contextmanager
    def _waiting(self, token: str) -> Iterator[Future[Told]]:
        with self._lock:
            flight = self._flights.setdefault(token, _Flight())
            flight.waiters += 1
        try:
            yield flight.news
        finally:
            with self._lock:
                flight.waiters -= 1
                if not flight.waiters and not flight.news.done() and self._flights.get(token) is flight:
                    del self._flights[token]
                self._forget_old()

    def _forget_old(self) -> None:
        horizon = time.monotonic() - KEEP
        for token, flight in list(self._flights.items()):
            if flight.since > horizon:
                return  # in order of their making: the rest is younger
            if not flight.waiters:
                del self._flights[token]

    def _hear(self, pubsub: Any) -> None:
        try:
            while not self._closed:
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=CHECK_EVERY)
                if message is not None:
                    data: bytes = message["data"]
                    self.tell(data[:TOKEN].decode(), self._read(data[TOKEN:]))
                elif any(flight.waiters for flight in list(self._flights.values())):
                    self._check()
        except Exception as error:  # noqa: BLE001 - whatever it died of, its waiters must not wait for it
            # Closing its connection from another thread surfaces here in many shapes.
            logger.debug("the ear heard its last: %r", error)
        finally:
            self._pubsub = None  # before letting go: who comes now sees that nobody listens
            self.let_go()
            pubsub.close()
