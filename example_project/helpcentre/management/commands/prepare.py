from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from example_project.helpcentre.seed import seed

ADMIN = "admin"


class Command(BaseCommand):
    help = (
        "Brings the database up to date and adds the articles that are missing. With DJANGO_SUPERUSER_PASSWORD in the "
        f'environment, also makes the user "{ADMIN}" with that password, or gives it to the one there is.'
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        added = seed()
        if password := os.environ.get("DJANGO_SUPERUSER_PASSWORD"):
            self._admin(password)
        if options["verbosity"]:
            self.stdout.write(f"Ready; {added} articles were added.")

    def _admin(self, password: str) -> None:
        users = get_user_model().objects
        user, _ = users.get_or_create(username=ADMIN)
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(password)
        user.save()
