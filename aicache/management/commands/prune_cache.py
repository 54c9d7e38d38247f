from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from aicache.conf import get_settings
from aicache.durable.retention import EXPIRED_FOR
from aicache.upkeep import prune

LONGEST = 100_000


class Command(BaseCommand):
    help = (
        "Deletes from the database what is of no use any more, in batches: copies of answers and idempotency keys that "
        "have expired; and makes hours of the minutes that calls were counted in, where they are two days old."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expired-for",
            type=_days,
            default=EXPIRED_FOR,
            metavar="DAYS",
            help=f"keeps copies that expired less than so many days ago, to tell why they are asked for again; "
            f"default {EXPIRED_FOR.days}",
        )

    def handle(self, *args: Any, expired_for: timedelta, **options: Any) -> None:
        using = get_settings().database
        try:
            pruned = prune(expired_for)
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"the database {using!r} cannot be asked: {error}") from error
        self.stdout.write(f"{pruned.copies:,} expired copies of answers deleted")
        self.stdout.write(f"{pruned.keys:,} expired idempotency keys deleted")
        self.stdout.write(f"{pruned.counts:,} old rows of counts rolled up")


def _days(given: str) -> timedelta:
    try:
        days = float(given)
    except ValueError:
        days = -1
    if not 0 <= days < LONGEST:
        raise ArgumentTypeError(f"{given!r} is no number of days")
    return timedelta(days=days)
