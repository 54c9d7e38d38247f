from __future__ import annotations

import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aicache.conf import get_settings
from aicache.core.operations import Unavailable
from aicache.freshness.databases import candidates, may_hold
from aicache.freshness.drain import compact, drain, pending
from aicache.upkeep import index_tags, reclaim

PAUSE: Final = 1.0  # seconds between two attempts of --wait


class Command(BaseCommand):
    help = (
        "Applies the invalidations that are pending, in every database that has any, and tidies up: frees the memory "
        "of dead answers, and brings the admin's list of tags up to date. Fails if something stays pending, or "
        "a database cannot be asked; what can be done is done all the same."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--compact", type=_days, metavar="DAYS", help="also deletes invalidations that were applied and are older"
        )
        parser.add_argument("--wait", action="store_true", help="tries again until nothing is pending")

    def handle(self, *args: Any, wait: bool, **options: Any) -> None:
        self.troubles: dict[str, str] = {}
        while left := self._drain():
            if not wait:
                raise CommandError(
                    f"{left} still pending: Redis is out of reach. Nothing is lost: run this again, or with --wait"
                )
            self._progress(f"{left} still pending: Redis is out of reach. Trying again every {PAUSE:.0f} s")
            time.sleep(PAUSE)
        self._progress("")
        if options["compact"] is not None:
            self._compact(options["compact"])
        self._tidy()
        if self.troubles:
            raise CommandError(f"what is pending there is not known: {', '.join(sorted(self.troubles))}")

    def _drain(self) -> int:
        """→ how many are pending still, as far as the databases say."""
        left = 0
        for alias in candidates():
            with self._asking(alias):
                if not may_hold(alias):
                    if alias == get_settings().database:
                        raise CommandError(f'it has no table of ours: run "manage.py migrate --database {alias}"')
                    continue
                try:
                    self.stdout.write(f"{alias}: {drain(alias)} applied")
                except Unavailable:
                    left += pending(alias)
        return left

    def _compact(self, age: timedelta) -> None:
        for alias in candidates():
            if alias not in self.troubles:
                with self._asking(alias):
                    self.stdout.write(f"{alias}: {compact(age, alias)} old ones deleted")

    def _tidy(self) -> None:
        """What of this cannot be done now, the next run does."""
        try:
            freed, _ = reclaim()
            self.stdout.write(f"{freed} dead answers freed")
            if (alias := get_settings().database) not in self.troubles:
                with self._asking(alias):
                    self.stdout.write(f"{index_tags()} tags in use")
        except Unavailable:
            self.stderr.write("Redis is out of reach: no memory was freed", self.style.WARNING)

    @contextmanager
    def _asking(self, alias: str) -> Iterator[None]:
        """One database's trouble is told, once, and keeps nobody from the others."""
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a driver raises
            told = " ".join(str(error).split()) or type(error).__name__
            if self.troubles.get(alias) != told:
                self.stderr.write(f"{alias}: {told}", self.style.ERROR)
            self.troubles[alias] = told
        else:
            self.troubles.pop(alias, None)

    def _progress(self, text: str) -> None:
        """One line that is written over, for people only."""
        if self.stderr.isatty():
            self.stderr.write(f"\r\033[K{text}", str, ending="")


def _days(given: str) -> timedelta:
    try:
        days = float(given)
    except ValueError:
        days = -1
    if not 0 <= days < 100_000:
        raise ArgumentTypeError(f"{given!r} is no number of days")
    return timedelta(days=days)
