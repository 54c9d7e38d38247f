"""System checks: each with an id, and a hint that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from aicache.conf import Settings, cache_configuration, get_settings, middleware_paths
from aicache.store import Address

IMMEDIATE: Final = ("IMMEDIATE", "EXCLUSIVE")
SCOPE_MIDDLEWARE = "aicache.middleware.ScopeMiddleware"


@register(Tags.caches)
def check_settings(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """E001: the AICACHE setting. E002: its alias in CACHES. W001: nobody says whose call it is. W002: order.
    W003: who could say whose call it is, is not asked."""
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See docs/settings.md.", id="aicache.E001")]
    return [*_alias(settings), *_tenant(settings), *_order()]


@register(Tags.caches, deploy=True)
def check_sqlite(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """W004: a site whose transactions on SQLite may be failed by what is written beside them."""
    try:
        using = get_settings().database
    except ImproperlyConfigured:
        return []
    chosen = connections.settings.get(using, {})
    mode = str(chosen.get("OPTIONS", {}).get("transaction_mode", "")).upper()
    if not chosen.get("ENGINE", "").endswith(".sqlite3") or mode in IMMEDIATE:
        return []
    return [
        Warning(
            f"the database {using!r} is SQLite, which fails a transaction that reads before it writes when anything is "
            "written in between, such as by aicache in another process",
            hint=f'Set DATABASES["{using}"]["OPTIONS"]["transaction_mode"] to "IMMEDIATE", or name another database '
            'in AICACHE["DATABASE"].',
            id="aicache.W004",
        )
    ]


def _alias(settings: Settings) -> list[CheckMessage]:
    hint = (
        f'Give CACHES["{settings.cache_alias}"] the BACKEND "django_redis.cache.RedisCache" and a LOCATION such as '
        '"redis://127.0.0.1:6379/1", or name another alias in AICACHE["CACHE_ALIAS"].'
    )
    try:
        configuration = cache_configuration(settings)
        backend = str(configuration.get("BACKEND", ""))
        if not _is_django_redis(backend):
            return [
                Error(
                    f"the cache alias {settings.cache_alias!r} is a {backend!r}, not one of django-redis",
                    hint=hint,
                    id="aicache.E002",
                )
            ]
        Address.of_alias(configuration)
    except (ImproperlyConfigured, ImportError, ValueError) as error:
        return [
            Error(f"the cache alias {settings.cache_alias!r} cannot be used: {error}", hint=hint, id="aicache.E002")
        ]
    return []


def _is_django_redis(backend: str) -> bool:
    """Only its OPTIONS are understood: those of Django's own Redis backend would be passed over, its password too."""
    found = import_string(backend)
    return isinstance(found, type) and issubclass(found, import_string("django_redis.cache.RedisCache"))


def _tenant(settings: Settings) -> list[CheckMessage]:
    source = settings.tenant
    if source is not None and (source.needs_request or source.is_async) and SCOPE_MIDDLEWARE not in middleware_paths():
        return [
            Warning(
                'AICACHE["TENANT"] is of the request, or async, and nothing asks it: all calls are "unscoped"',
                hint=f"Add {SCOPE_MIDDLEWARE} to the end of MIDDLEWARE, or give a sync callable of no arguments.",
                id="aicache.W003",
            )
        ]
    if source is not None or settings.single_tenant:
        return []
    return [
        Warning(
            "nobody says whose a call is: only calls inside a scope(tenant=…) are cached",
            hint='Set AICACHE["TENANT"] to a callable, or SINGLE_TENANT=True if the site has one tenant.',
            id="aicache.W001",
        )
    ]


def _order() -> list[CheckMessage]:
    paths = middleware_paths()
    if SCOPE_MIDDLEWARE not in paths:
        return []
    before = paths[: paths.index(SCOPE_MIDDLEWARE)]
    late = [
        path
        for path in paths
        if path not in before
        and path.endswith((".LocaleMiddleware", ".AuthenticationMiddleware", ".SessionMiddleware"))
    ]
    if not late:
        return []
    return [
        Warning(
            f"{SCOPE_MIDDLEWARE} comes before {', '.join(late)}: it cannot know the user or the locale yet",
            hint=f"Move {SCOPE_MIDDLEWARE} to the end of MIDDLEWARE.",
            id="aicache.W002",
        )
    ]
