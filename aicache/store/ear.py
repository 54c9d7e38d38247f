"""How this process hears that a call it waits for has ended: one subscription, whatever it waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

from redis.exceptions import ResponseError

from aicache.core.live import Live
from aicache.core.operations import Unavailable
from aicache.core.turns import News
from aicache.store.news import PIECE, Heard, Told, piece

logger = logging.getLogger("aicache.store")

# News is kept this long for waiters who were told to wait and have not come yet: they are microseconds away.
KEEP: Final = 5.0
# While somebody waits and nothing is heard, the subscription is asked this often whether it still stands.
CHECK_EVERY: Final = 1.0
# Who waits and has no ear looks again this often.
STEP: Final = 0.25
# How long a server that refused the subscription is not asked for it again.
DEAF: Final = 30.0

TOKEN: Final = 32  # hex digits at the head of each message


@dataclass(slots=True)
class _Flight:
    """What this process knows of one leader's call; made by who comes first, a waiter or the news."""

    news: Future[Told] = field(default_factory=Future)
    waiters: int = 0


class Ear:
    """Threads and tasks wait here on futures; a daemon thread resolves them with what is published on ``channel``.

    The lease names the ears that want to hear, and registering is part of the very script that says who leads: no news
    is lost between the two, and a publication goes to those processes only that wait for it.

    ``subscribe``: opens the subscription. ``read``: what a message means. ``leads``: whether the leader with a token is
    of this process, whose news comes without Redis too. Streams are heard piece by piece by whoever holds their Live.
    """

    def __init__(
        self,
        channel: str,
        subscribe: Callable[[str], Any],
        read: Callable[[bytes], Heard],
        leads: Callable[[str], bool],
    ) -> None:
        self.channel = channel
        self.closed = False
        self._subscribe = subscribe
        self._read = read
        self._leads = leads
        self._lock = threading.RLock()  # who waits may be collected, and leave, in the middle of anything here
        self._flights: dict[str, _Flight] = {}
        self._lives: WeakValueDictionary[str, Live] = WeakValueDictionary()
        self._told: deque[tuple[float, str]] = deque()  # when, and whose news
        self._pubsub: Any = None
        self._standing: Future[bool] | None = None  # as long as the thread lives
        self._deaf_until = 0.0
        self._refused = False

    @property
    def listening(self) -> bool:
        return self._pubsub is not None

    def listen(self) -> Future[bool]:
        """Whether the subscription stands; redis's error where the server cannot be reached. Raises Unavailable.

        False where the server refuses it, for want of a right to the channel, or where no thread is to be had.
        """
        with self._lock:
            if self.closed:
                raise Unavailable("closed")
            if self._standing is not None:
                return self._standing
            standing: Future[bool] = Future()
            standing.set_running_or_notify_cancel()  # one waiter's cancellation is not the others'
            if time.monotonic() >= self._deaf_until:
                self._standing = standing
                try:
                    threading.Thread(target=self._live, args=(standing,), name="aicache-ear", daemon=True).start()
                    return standing
                except RuntimeError as error:
                    self._standing = None
                    logger.debug("no ear: %s", error)
        standing.set_result(False)
        return standing

    def live(self, token: str) -> Live:
        """What is heard of that leader's stream, for as long as somebody holds it."""
        with self._lock:
            if (live := self._lives.get(token)) is None:
                live = self._lives[token] = Live()
            return live

    def wait(self, token: str, seconds: float, live: Live | None = None, *, reads: bool = False) -> Told | Live | None:
        """The news of that leader, or where the caller ``reads``, its stream as soon as there is something to read;
        None where nothing is heard in time."""
        live = live or self.live(token)
        with self._waiting(token, live) as news:
            awaited: set[Future[Any]] = {news, live.begun} if reads and not live.is_broken else {news}
            wait_for(awaited, self._patience(token, seconds), FIRST_COMPLETED)
            return _outcome(news, live, reads)

    async def await_(
        self, token: str, seconds: float, live: Live | None = None, *, reads: bool = False
    ) -> Told | Live | None:
        """As ``wait``, for a task."""
        live = live or self.live(token)
        with self._waiting(token, live) as news:
            # asyncio.wait cancels the futures neither in time nor with this task: others wait on them.
            heard = (news, live.begun) if reads and not live.is_broken else (news,)
            awaited = {asyncio.wrap_future(future) for future in heard}
            seconds = self._patience(token, seconds)
            await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return _outcome(news, live, reads)

    def _patience(self, token: str, seconds: float) -> float:
        if self.closed:
            return 0
        return seconds if self.listening or self._leads(token) else min(seconds, STEP)

    def tell(self, token: str, heard: Heard) -> None:
        """Lets this process's waiters for that leader go, and its readers know how it ended."""
        with self._lock:
            flight = self._flights.setdefault(token, _Flight())
            live = self._lives.get(token)
            first = not flight.news.done()
            if first:
                self._told.append((time.monotonic(), token))
                flight.news.set_result(heard.told)
        if live is not None:
            heard.end(live)
        self._forget_old()

    def tell_waiting(self, token: str, heard: Heard) -> None:
        """As ``tell``, where nobody comes any more who is not waiting already."""
        with self._lock:
            known, live = token in self._flights, self._lives.get(token)
        if known:
            self.tell(token, heard)
        elif live is not None:
            heard.end(live)

    def close(self) -> None:
        """Hears no more; the thread ends within CHECK_EVERY."""
        self.closed = True
        self._tell_all(lambda token: True)

    def let_go(self) -> None:
        """Lets those go who wait for other processes: nothing more will be heard from this subscription."""
        self._tell_all(lambda token: not self._leads(token))

    def _tell_all(self, which: Callable[[str], bool]) -> None:
        with self._lock:
            gone = [token for token in list(self._flights) if which(token)]
            flights = [self._flights.pop(token) for token in gone]
            lives = [live for token, live in self._lives.items() if which(token)]
        for live in lives:
            live.doubt()
        for flight in flights:
            if not flight.news.done():
                flight.news.set_result(News.LOOK_AGAIN)

    @contextmanager
    def _waiting(self, token: str, live: Live) -> Iterator[Future[Told]]:
        with self._lock:
            flight = self._flights.setdefault(token, _Flight())
            flight.waiters += 1
        live.join()
        try:
            yield flight.news
        finally:
            live.leave()
            # Told news stays a moment, for who is on the way, and is swept: those who wake together need no lock, which
            # each would wait for in turn. Without a subscription nobody sweeps.
            if not (flight.news.done() and self.listening):
                self._leave(token, flight)

    def _leave(self, token: str, flight: _Flight) -> None:
        with self._lock:
            flight.waiters -= 1
            if not flight.waiters and self._flights.get(token) is flight:
                del self._flights[token]

    def _somebody_waits(self) -> bool:
        return any(not flight.news.done() for flight in list(self._flights.values()))

    def _forget_old(self) -> None:
        """At each news, and each CHECK_EVERY: what it costs does not grow with what is waited for."""
        horizon = time.monotonic() - KEEP
        with self._lock:
            while self._told and self._told[0][0] < horizon:
                self._flights.pop(self._told.popleft()[1], None)

    def _live(self, standing: Future[bool]) -> None:
        """The thread's whole life, from the subscription to its end."""
        try:
            pubsub = self._subscribe(self.channel)
        except ResponseError as error:
            self._deaf_until = time.monotonic() + DEAF
            if not self._refused:
                self._refused = True
                logger.warning("Redis refuses a subscription (%s): who waits looks again every %s s", error, STEP)
            self._standing = None
            standing.set_result(False)
        except Exception as error:  # noqa: BLE001 - whoever asked for it decides
            self._standing = None
            standing.set_exception(error)
        else:
            self._refused = False
            self._pubsub = pubsub
            standing.set_result(True)
            self._hear(pubsub)

    def _hear(self, pubsub: Any) -> None:
        asked = False
        try:
            while not self.closed:
                message = pubsub.get_message(timeout=CHECK_EVERY)
                if message is None and asked:
                    raise TimeoutError("the subscription died silently")
                # An idle process sends nothing; and whatever comes shows that the subscription stands.
                asked = message is None and self._somebody_waits()
                if asked:
                    pubsub.ping()
                elif message is not None:
                    self._take(message)
                self._forget_old()
        except Exception as error:  # noqa: BLE001 - whatever it died of, its waiters must not wait for it
            # Closing its connection from another thread surfaces here in many shapes.
            logger.debug("the ear heard its last: %r", error)
        finally:
            self._pubsub = self._standing = None  # before letting go: who comes now sees that nobody listens
            self.let_go()
            pubsub.close()

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "message":
                data: bytes = message["data"]
                token, rest = data[:TOKEN].decode(), data[TOKEN:]
                if rest[:1] != PIECE:
                    self.tell(token, self._read(rest))
                elif (live := self._lives.get(token)) is not None:
                    live.receive(*piece(rest))
            case "subscribe":  # the client made its connection anew: what was published meanwhile is lost
                self.let_go()


def _outcome(news: Future[Told], live: Live, reads: bool) -> Told | Live | None:
    if news.done():
        return news.result()
    if not reads or not live.can_be_joined:
        return None
    live.join()  # until who reads it leaves
    return live
