from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aicache.cache import get_cache
from aicache.conf import get_settings, site
from aicache.core.operations import Unavailable


class Command(BaseCommand):
    help = "Turns the cache off or on for the running fleet, at once, or says how it stands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["off", "on", "status"])

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        settings, store = get_settings(), get_cache().store
        try:
            if action != "status":
                store.switch(action == "on")
            on = store.is_on()
        except Unavailable as trouble:
            raise CommandError(
                f"Redis cannot be asked ({trouble}): while it is away nothing is served from the cache anyway. "
                'To keep the cache off whatever happens to Redis, set AICACHE["ENABLED"] to False.'
            ) from trouble
        self.stdout.write(f"settings  {'enabled' if settings.enabled else 'disabled by AICACHE[ENABLED]'}")
        self.stdout.write(f"fleet     {'on' if on else 'off: every call goes to upstream, nothing is kept'}")
        self.stdout.write(f"cache     alias {settings.cache_alias!r}, site {site(settings)!r}")
