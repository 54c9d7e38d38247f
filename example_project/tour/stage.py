"""Everything that the steps of the tour play with, and the verbs that they have."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from django.core.management import CommandError

from example_project.children import Children, Command
from example_project.servers import Valkey
from example_project.tour.records import Question, Save, Saved, Seen
from example_project.tour.upstream import Upstream
from example_project.tour.worker import Worker, WorkerLost

WORKERS: Final = 4
PATIENCE: Final = 60.0  # seconds for a command


class Stage:
    """``workers`` are processes of the site; ``victim`` is one more, to be killed. ``tags``: by the titles of articles
    that were saved. ``columns``: how wide what commands print may be."""

    def __init__(self, children: Children, folder: Path, upstream: Upstream, columns: int) -> None:
        self.upstream = children.start(upstream)
        self.valkey = children.start(Valkey(folder))
        self._log_path = folder / "workers.log"
        self._children = children
        self._environment = environment = {
            "AICACHE_DEMO_REDIS": self.valkey.url,
            "AICACHE_DEMO_CLAUDE": upstream.url,
            "AICACHE_DEMO_DB": str(folder / "helpcentre.sqlite3"),
            "COLUMNS": str(columns),
        }
        prepare = children.start(Command("prepare", "--verbosity=0", "--skip-checks", environment=environment))
        with self._log_path.open("w") as log:
            *self.workers, self.victim = [children.start(Worker(environment, log)) for _ in range(WORKERS + 1)]
        if prepare.process.wait():
            raise CommandError("The database could not be prepared; the reason is above.")
        for worker in (*self.workers, self.victim):
            try:
                worker.ready()
            except WorkerLost as lost:
                raise CommandError(f"A worker did not start:\n{self.log(20)}") from lost
        self.tags: dict[str, str] = {}
        self._texts: dict[tuple[str, str], str] = {}

    def ask(self, tenant: str, text: str, *, worker: int = 0, bypass: bool = False) -> Seen:
        """One question in one process."""
        seen = self.ask_in(worker, Question(tenant, text, bypass=bypass))
        if not bypass:
            self._texts[tenant, text] = seen.text
        return seen

    def ask_at_once(self, tenant: str, text: str, workers: list[Worker], times: int) -> list[Seen]:
        """The same question in all these processes, by so many threads in each."""
        for worker in workers:
            worker.ask(Question(tenant, text, times))
        return [seen for worker in workers for seen in worker.answers()]

    def answer_of(self, tenant: str, text: str) -> str:
        """The last answer to a question that was asked alone and not past the cache; "" if there is none."""
        return self._texts.get((tenant, text), "")

    def ask_in(self, worker: int, question: Question) -> Seen:
        self.workers[worker].ask(question)
        [seen] = self.workers[worker].answers()
        return seen

    def save(self, question: Question, *, worker: int, as_it_is: bool = False) -> Saved:
        """Changes the article that the question is about."""
        saved = self.workers[worker].save(Save(question.tenant, question.article, as_it_is))
        self.tags[question.article] = saved.tag
        return saved

    @property
    def heard(self) -> list[Seen]:
        """All answers that came, of all workers."""
        return [seen for worker in (*self.workers, self.victim) for seen in worker.heard]

    def ask_each(self, *questions: Question) -> list[Seen]:
        """All at the same time, each in a process of its own."""
        for worker, question in zip(self.workers, questions, strict=False):
            worker.ask(question)
        return [worker.answers()[0] for worker, _ in zip(self.workers, questions, strict=False)]

    def manage(self, *arguments: str) -> str:
        """What ``manage.py`` prints, run from a shell. OSError where it fails."""
        # The checks would load the pages, and with them the SDK, which takes longer than all the rest.
        command = Command(
            *arguments, "--skip-checks", environment=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = self._children.start(command).process.communicate(timeout=PATIENCE)
        if command.process.returncode:
            raise OSError(f"manage.py {arguments[0]} failed: {said.strip()}")
        return said

    @contextmanager
    def calls_take(self, seconds: float) -> Iterator[None]:
        """At least."""
        self.upstream.delay(seconds)
        try:
            yield
        finally:
            self.upstream.delay(None)

    def until(self, true: Callable[[], bool], patience: float) -> bool:
        """Waits for it. → whether it came about."""
        deadline = time.monotonic() + patience
        while not (came := true()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return came

    def log(self, lines: int) -> str:
        """The last lines of what the workers logged."""
        with suppress(OSError):
            return "\n".join(self._log_path.read_text().splitlines()[-lines:])
        return ""
