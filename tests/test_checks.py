from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import override_settings
from django_redis.cache import RedisCache

from aicache.checks import check_settings, check_sqlite

# Django's own checks of models look at what the databases can do.
pytestmark = pytest.mark.django_db(databases="__all__")

SCOPE = "aicache.middleware.ScopeMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"


class OurRedis(RedisCache):  # type: ignore[misc]
    """A site's own."""


GOOD = {"SINGLE_TENANT": True}


def cached(**changes: Any) -> dict[str, Any]:
    return {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://127.0.0.1:6379/1",
            **changes,
        }
    }


@contextmanager
def site(**changes: Any) -> Iterator[None]:
    with override_settings(**{"AICACHE": GOOD, "CACHES": cached(), "MIDDLEWARE": [], **changes}):
        yield


def found(**changes: Any) -> list[Any]:
    with site(**changes):
        return [message for message in run_checks() if str(message.id).startswith("aicache.")]


def ids(**changes: Any) -> list[str]:
    return [message.id for message in found(**changes)]


def test_a_site_that_is_set_up_well_hears_nothing() -> None:
    assert found() == []


class TestE001:
    def test_a_mistake_in_the_setting(self) -> None:
        (error,) = found(AICACHE={"NAMESAPCE": 2})

        assert error.id == "aicache.E001"
        assert "'NAMESAPCE'" in error.msg
        assert "docs/settings.md" in error.hint

    def test_a_tenant_that_does_not_say_what_it_takes(self) -> None:
        assert ids(AICACHE={"TENANT": int}) == ["aicache.E001"]

    def test_fails_manage_py_check(self) -> None:
        with site(AICACHE={"ENABLED": "no"}), pytest.raises(SystemCheckError, match=r"aicache\.E001.*ENABLED"):
            call_command("check")


class TestE002:
    def test_an_alias_that_is_not_in_caches(self) -> None:
        (error,) = found(AICACHE={**GOOD, "CACHE_ALIAS": "claude"})

        assert error.id == "aicache.E002"
        assert "'claude'" in error.msg
        assert 'CACHES["claude"]' in error.hint
        assert "django_redis.cache.RedisCache" in error.hint

    @pytest.mark.parametrize(
        "backend",
        [
            "django.core.cache.backends.locmem.LocMemCache",
            "django.core.cache.backends.dummy.DummyCache",
            # Its OPTIONS are spelled otherwise: password and database would be passed over.
            "django.core.cache.backends.redis.RedisCache",
        ],
    )
    def test_a_backend_that_is_not_of_django_redis(self, backend: str) -> None:
        (error,) = found(CACHES=cached(BACKEND=backend))

        assert error.id == "aicache.E002"
        assert repr(backend) in error.msg
        assert "not one of django-redis" in error.msg
        assert "django_redis.cache.RedisCache" in error.hint

    @pytest.mark.parametrize(
        "location", ["", None, [], "127.0.0.1:6379", "http://127.0.0.1:6379", "redis://host:port/0"], ids=repr
    )
    def test_a_location_that_names_no_server(self, location: Any) -> None:
        (error,) = found(CACHES=cached(LOCATION=location))

        assert error.id == "aicache.E002"
        assert "cannot be used" in error.msg
        assert "LOCATION" in error.hint

    def test_fails_manage_py_check(self) -> None:
        with site(CACHES=cached(LOCATION="nowhere")), pytest.raises(SystemCheckError, match=r"aicache\.E002"):
            call_command("check")

    @pytest.mark.parametrize(
        "location",
        [
            "redis://h:1/2",
            "rediss://u:p@h:1",
            "unix:///run/redis.sock",
            ["redis://a", "redis://b"],
            "redis://a,redis://b",
        ],
    )
    def test_is_silent_about_a_server_of_any_kind(self, location: Any) -> None:
        assert ids(CACHES=cached(LOCATION=location)) == []

    def test_is_silent_about_a_backend_made_of_it(self) -> None:
        assert ids(CACHES=cached(BACKEND=f"{__name__}.OurRedis")) == []

    @pytest.mark.parametrize("backend", ["nowhere.redis.RedisCache", "RedisCache", ""])
    def test_a_backend_that_cannot_be_imported(self, backend: str) -> None:
        with site(CACHES=cached(BACKEND=backend)):  # which Django refuses too, in its own words
            (error,) = check_settings(None)

        assert error.id == "aicache.E002"
        assert "cannot be used" in error.msg


class TestW001:
    def test_nobody_says_whose_a_call_is(self) -> None:
        (warning,) = found(AICACHE={})

        assert warning.id == "aicache.W001"
        assert 'AICACHE["TENANT"]' in warning.hint
        assert "SINGLE_TENANT=True" in warning.hint

    @pytest.mark.parametrize("setting", [{"SINGLE_TENANT": True}, {"TENANT": lambda: "acme"}])
    def test_is_silent_where_somebody_does(self, setting: dict[str, Any]) -> None:
        assert ids(AICACHE=setting) == []

    def test_lets_manage_py_check_pass_and_says_so_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        with site(AICACHE={}):
            call_command("check", tags=["caches"])  # not those of the admin, which wants its middleware

        assert "aicache.W001" in capsys.readouterr().err


class TestW002:
    @pytest.mark.parametrize("late", [LOCALE, AUTHENTICATION, SESSION])
    def test_the_scope_opens_before_it_can_know_for_whom(self, late: str) -> None:
        (warning,) = found(MIDDLEWARE=[COMMON, SCOPE, late])

        assert warning.id == "aicache.W002"
        assert late in warning.msg
        assert f"Move {SCOPE} to the end" in warning.hint

    @pytest.mark.parametrize(
        "paths", [[], [SCOPE], [SESSION, LOCALE, AUTHENTICATION, SCOPE], [SCOPE, COMMON], [LOCALE, AUTHENTICATION]]
    )
    def test_is_silent_where_the_order_is_good(self, paths: list[str]) -> None:
        assert ids(MIDDLEWARE=paths) == []


async def _of_somebody() -> str:
    return "acme"


class TestW003:
    @pytest.mark.parametrize("tenant", [lambda request: request.user.pk, _of_somebody])
    def test_nobody_asks_the_callable_whose_call_it_is(self, tenant: Any) -> None:
        (warning,) = found(AICACHE={"TENANT": tenant}, MIDDLEWARE=[SESSION])

        assert warning.id == "aicache.W003"
        assert f"Add {SCOPE} to the end" in warning.hint

    @pytest.mark.parametrize(
        ("tenant", "paths"),
        [
            (lambda request: request.user.pk, [SESSION, SCOPE]),
            (_of_somebody, [SCOPE]),
            (lambda: "acme", []),
            (lambda request=None: "acme", []),
        ],
    )
    def test_is_silent_where_somebody_does(self, tenant: Any, paths: list[str]) -> None:
        assert ids(AICACHE={"TENANT": tenant}, MIDDLEWARE=paths) == []


def test_several_faults_are_told_together() -> None:
    assert ids(
        AICACHE={}, CACHES=cached(BACKEND="django.core.cache.backends.locmem.LocMemCache"), MIDDLEWARE=[SCOPE, LOCALE]
    ) == [
        "aicache.E002",
        "aicache.W001",
        "aicache.W002",
    ]


class TestW004:
    def deployed(self, **options: Any) -> list[Any]:
        database = {**connections.settings["default"], "OPTIONS": options}
        with site(), mock.patch.dict(connections.settings, default=database):
            return check_sqlite(None)

    def test_sqlite_may_fail_a_transaction_that_reads_before_it_writes(self) -> None:
        (warning,) = self.deployed()
        assert warning.id == "aicache.W004"
        assert '"transaction_mode"] to "IMMEDIATE"' in warning.hint

    @pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
    def test_not_where_it_takes_the_lock_for_writing_first(self, mode: str) -> None:
        assert self.deployed(transaction_mode=mode) == []

    def test_it_is_said_before_a_deployment_only(self) -> None:
        with site():
            said = [message.id for message in run_checks(include_deployment_checks=True)]
        assert "aicache.W004" in said
        assert "aicache.W004" not in ids()

    def test_a_mistake_in_the_setting_is_told_by_another(self) -> None:
        with site(AICACHE={"NONSENSE": 1}):
            assert check_sqlite(None) == []
