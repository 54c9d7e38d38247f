from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

Staff = Callable[..., Client]


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
    """May look at answers and keys, and no more."""
    return staff("view_cacheentry", "view_idempotencykey", "view_invalidation", "view_invalidationtag")


@pytest.fixture
def keeper(staff: Staff) -> Client:
    """May look at answers and keys, purge the ones and forget the others."""
    return staff(
        "view_cacheentry",
        "view_idempotencykey",
        "view_invalidation",
        "view_invalidationtag",
        "purge_entry",
        "forget_key",
    )
