from __future__ import annotations

import io
import time
from contextlib import suppress
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

EVERY = 5.0


class Command(BaseCommand):
    help = "Does every few seconds what a site with Celery leaves to its beat, until it is ended. Not for use by hand."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        while True:
            with suppress(CommandError):  # Redis is away: the next time
                call_command("drain_invalidations", stdout=io.StringIO(), stderr=io.StringIO())
            time.sleep(EVERY)
