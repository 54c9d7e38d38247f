from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from aicache.freshness import databases
from tests.freshness.tables import database
from tests.places import ON

Staff = Callable[..., Client]
PLACE: Final = "place"


@pytest.fixture
def staff(transactional_db: None) -> Staff:
    """Signs somebody in who has these rights of the app, by their codenames."""

    def sign_in(*codenames: str) -> Client:
        user = User.objects.create_user(f"with {', '.join(codenames)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="aicache", codename__in=codenames))
        client = Client(enforce_csrf_checks=False)
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def viewer(staff: Staff) -> Client:
    return staff("view_invalidation", "view_invalidationtag")


@pytest.fixture
def purger(staff: Staff) -> Client:
    return staff("view_invalidation", "view_invalidationtag", "purge_tag")


@pytest.fixture
def reader(staff: Staff) -> Client:
    """May look at answers and keys and read them, and no more."""
    return staff("view_cacheentry", "view_idempotencykey", "view_invalidation", "view_invalidationtag", "view_content")


@pytest.fixture
def keeper(staff: Staff) -> Client:
    """May look at answers and keys and read them, purge the ones and forget the others."""
    return staff(
        "view_cacheentry",
        "view_idempotencykey",
        "view_invalidation",
        "view_invalidationtag",
        "view_content",
        "purge_entry",
        "forget_key",
    )


@pytest.fixture(params=ON)
def using(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    """A database of the test's own."""
    with (
        request.param(tmp_path) as configuration,
        django_db_blocker.unblock(),
        database(PLACE, OPTIONS={}, **configuration),
    ):
        yield PLACE
        databases._migrated.pop(PLACE, None)
