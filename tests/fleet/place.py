"""A database, a Redis, and processes that do as they are told; started once for a test, or for many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aicache.freshness import databases, drain
from aicache.models import Invalidation
from tests.freshness.library.models import Article, Org, Ticket
from tests.freshness.tables import database
from tests.spoken import Spoken
from tests.store.servers import Server, serving


class Saver(Spoken):
    """A process that does what it is told, one thing after the other."""

    def __init__(self, job: dict[str, Any], module: str = "tests.fleet.saver") -> None:
        super().__init__(module, job)

    def __call__(self, do: str, **more: Any) -> dict[str, Any]:
        """→ what it says of it; where it is to stop, that it stands there."""
        self.tell(do, **more)
        return self.hear()

    def tell(self, do: str, **more: Any) -> None:
        self.say(do=do, **more)

    def end(self) -> None:
        """As it ends by itself, with nothing more to do."""
        self.leave()
        assert self.popen.returncode == 0


class Place:
    """A database with an article and a ticket, a Redis, and as many processes as are asked for."""

    def __init__(self, alias: str, configuration: dict[str, Any], redis: Server) -> None:
        self.alias = alias
        self.redis = redis
        self.job = {"database": configuration, "redis": redis.url}
        self.processes: list[Saver] = []
        Article.objects.using(alias).create(pk=1, title="old")
        Ticket.objects.using(alias).create(pk=1, org=Org.objects.using(alias).create(pk=1, name="acme"), text="old")
        Invalidation.objects.using(alias).all().delete()

    def process(self, module: str = "tests.fleet.saver", **more: Any) -> Saver:
        saver = Saver({**self.job, **more}, module)
        self.processes.append(saver)
        assert saver.hear() == {"ready": True}
        return saver

    @property
    def pending(self) -> int:
        return drain.pending(self.alias)

    @property
    def texts(self) -> tuple[str, str]:
        return Article.objects.using(self.alias).get().title, Ticket.objects.using(self.alias).get().text


@contextmanager
def a_place(alias: str, on: Any, directory: Path, blocker: Any) -> Iterator[Place]:
    """``alias``: of its database, in this process."""
    with ExitStack() as stack:
        configuration = stack.enter_context(on(directory))
        stack.enter_context(blocker.unblock())
        stack.callback(databases._migrated.pop, alias, None)
        stack.enter_context(database(alias, **configuration))
        made = Place(alias, configuration, stack.enter_context(serving(directory / "redis")))
        yield made
        for process in made.processes:
            process.kill()


def until(told: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
