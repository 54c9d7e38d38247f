from __future__ import annotations

import io
import time
from contextlib import suppress
from itertools import count
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

EVERY = 5.0
PRUNED = 12  # in every so many rounds


class Command(BaseCommand):
    help = "Does every few seconds what a site with Celery leaves to its beat, until it is ended. Not for use by hand."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        for number in count():
            for command in ("drain_invalidations", *(["prune_cache"] if number % PRUNED == 0 else [])):
                with suppress(CommandError):  # Redis or the database is away: the next time
                    call_command(command, stdout=io.StringIO(), stderr=io.StringIO())
            time.sleep(EVERY)
