"""``AICACHE`` → one frozen, validated Settings. The only reader of ``django.conf``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from aicache.core.policy import Policy, policies
from aicache.core.tags import digest

ROOT: Final = "AICACHE"
MOST_DAYS: Final = 36_500
SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class TenantSource:
    """The site's callable that says whose call it is: of the request, of nothing (asked at each call), or of either."""

    ask: Callable[..., Any]
    takes_request: bool
    needs_request: bool

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.ask) or iscoroutinefunction(
            getattr(self.ask, "__call__", None)  # noqa: B004 - an object with an async __call__ is async
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a site may choose, under the names of ``AICACHE`` in lower case; see docs/settings.md."""

    enabled: bool = True
    cache_alias: str = "default"
    namespace: str = "1"
    tenant: TenantSource | None = None
    single_tenant: bool = False
    staff_tenants: Callable[[Any], Any] | None = None
    refresh: Callable[..., Any] | None = None
    database: str = "default"
    durable: bool = True
    store_requests: bool = False
    workspace: str = ""
    metrics_days: int = 400
    metrics_token: str = field(default="", repr=False)
    policies: Mapping[str, Policy] = None  # type: ignore[assignment]  # never None after load()
    default_policy: str = "default"

    def policy(self, name: str) -> Policy:
        """Raises ValueError that lists what is known."""
        try:
            return self.policies[name]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.policies))
            raise ValueError(f"there is no policy {name!r}; known: {known}") from None


KNOWN: Final = [known.name.upper() for known in fields(Settings)]


@cache
def get_settings() -> Settings:
    """Read once; anew after ``override_settings``. Raises ImproperlyConfigured that names key and value."""
    return load(getattr(django_settings, ROOT, {}))


def load(given: Any) -> Settings:
    """Raises ImproperlyConfigured."""
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{ROOT} is {given!r}; accepted: a dict with {', '.join(KNOWN)}")
    for key in given:
        if key not in KNOWN:
            raise ImproperlyConfigured(f"{ROOT} has the unknown key {key!r}; accepted: {', '.join(KNOWN)}")
    try:
        known = policies(_typed(given, "POLICIES", {}, Mapping, "a dict of policies"))
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(f'{ROOT}["POLICIES"]: {error}') from error
    settings = Settings(
        enabled=_typed(given, "ENABLED", True, bool, "True or False"),
        cache_alias=_typed(given, "CACHE_ALIAS", "default", str, "a key of CACHES"),
        namespace=_name(given, "NAMESPACE", "1"),
        tenant=_tenant(given.get("TENANT")),
        single_tenant=_typed(given, "SINGLE_TENANT", False, bool, "True or False"),
        staff_tenants=_staff_tenants(given.get("STAFF_TENANTS")),
        refresh=_refresh(given.get("REFRESH")),
        database=_typed(given, "DATABASE", "default", str, "a key of DATABASES"),
        durable=_typed(given, "DURABLE", True, bool, "True or False"),
        store_requests=_typed(given, "STORE_REQUESTS", False, bool, "True or False"),
        workspace=_typed(given, "WORKSPACE", "", str, "a name for the workspace of the site's credentials"),
        metrics_days=_days(given, "METRICS_DAYS", 400),
        metrics_token=_token(given, "METRICS_TOKEN"),
        policies=known,
        default_policy=_typed(given, "DEFAULT_POLICY", "default", str, "the name of a policy"),
    )
    for key in ("TENANT", "STAFF_TENANTS"):
        if settings.single_tenant and getattr(settings, key.lower()) is not None:
            raise ImproperlyConfigured(f'{ROOT} sets both "{key}" and "SINGLE_TENANT"; accepted: one of them')
    if settings.database not in django_settings.DATABASES and settings.database != "default":
        raise ImproperlyConfigured(
            f'{ROOT}["DATABASE"] is {settings.database!r}; accepted: one of {", ".join(django_settings.DATABASES)}'
        )
    try:
        settings.policy(settings.default_policy)
    except ValueError as error:
        raise ImproperlyConfigured(f'{ROOT}["DEFAULT_POLICY"]: {error}') from error
    return settings


def cache_configuration(settings: Settings) -> Mapping[str, Any]:
    """The alias's part of Django's CACHES. Raises ImproperlyConfigured."""
    configured: Mapping[str, Any] = django_settings.CACHES
    if settings.cache_alias not in configured:
        raise ImproperlyConfigured(
            f'{ROOT}["CACHE_ALIAS"] is {settings.cache_alias!r}; accepted: one of CACHES, {", ".join(configured)}'
        )
    chosen: Mapping[str, Any] = configured[settings.cache_alias]
    return chosen


def site(settings: Settings) -> str:
    """What keeps sites apart that share a server."""
    prefix = str(cache_configuration(settings).get("KEY_PREFIX") or "")
    return f"{digest('site', prefix)}:{settings.namespace}" if prefix else settings.namespace


def middleware_paths() -> list[str]:
    return list(django_settings.MIDDLEWARE)


def _typed(given: Mapping[str, Any], key: str, default: Any, kind: Any, accepted: str) -> Any:
    value = given.get(key, default)
    if not isinstance(value, kind):
        raise ImproperlyConfigured(f'{ROOT}["{key}"] is {value!r}; accepted: {accepted}')
    return value


def _token(given: Mapping[str, Any], key: str) -> str:
    """What is given is no word of the error: it may be half of a secret."""
    value = given.get(key, "")
    if not isinstance(value, str) or (value and not _can_be_sent(value)):
        raise ImproperlyConfigured(
            f'{ROOT}["{key}"] is a {type(value).__name__} that is no token; accepted: ASCII text of at least '
            f"{SHORTEST_TOKEN} characters, without spaces around it, or none"
        )
    return value


def _can_be_sent(token: str) -> bool:
    return len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable() and token == token.strip()


def _days(given: Mapping[str, Any], key: str, default: int) -> int:
    value = given.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_DAYS:
        raise ImproperlyConfigured(f'{ROOT}["{key}"] is {value!r}; accepted: a whole number, from 1 to {MOST_DAYS:,}')
    return value


def _name(given: Mapping[str, Any], key: str, default: str) -> str:
    """A word that may stand in a key; a number will do, as namespaces are bumped."""
    value = given.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]{1,64}", value):
        raise ImproperlyConfigured(
            f'{ROOT}["{key}"] is {value!r}; accepted: 1 to 64 letters, digits, "-" and "_", or a number'
        )
    return value


def _tenant(value: Any) -> TenantSource | None:
    if value is None:
        return None
    one = "a callable or a dotted path to one. One tenant for all is SINGLE_TENANT=True"
    ask = _imported("TENANT", value, one)
    takes, needs = _arguments("TENANT", ask, "accepted: a callable of none, or of the request")
    return TenantSource(ask, takes_request=takes, needs_request=needs)


def _staff_tenants(value: Any) -> Callable[[Any], Any] | None:
    if value is None:
        return None
    ask = _imported("STAFF_TENANTS", value, "None, a callable of the request, or a dotted path to one")
    accepted = "accepted: a callable of the request"
    takes, _ = _arguments("STAFF_TENANTS", ask, accepted)
    if not takes:
        raise ImproperlyConfigured(f'{ROOT}["STAFF_TENANTS"] is {ask!r}, which takes no argument; {accepted}')
    if TenantSource(ask, True, True).is_async or inspect.isasyncgenfunction(ask):
        raise ImproperlyConfigured(f'{ROOT}["STAFF_TENANTS"] is {ask!r}, which is async; the admin is not. {accepted}')
    return ask


def _refresh(value: Any) -> Callable[..., Any] | None:
    if value is None:
        return None
    accepted = "None, a function f(request, *, tenant, entry), or a dotted path to one"
    act = _imported("REFRESH", value, accepted)
    try:
        inspect.signature(act).bind({}, tenant=None, entry=None)
    except (TypeError, ValueError):
        raise ImproperlyConfigured(f'{ROOT}["REFRESH"] is {act!r}; accepted: {accepted}') from None
    if TenantSource(act, True, True).is_async or inspect.isasyncgenfunction(act):
        raise ImproperlyConfigured(f'{ROOT}["REFRESH"] is {act!r}, which is async; the admin is not')
    return act


def _imported(key: str, value: Any, accepted: str) -> Callable[..., Any]:
    """A callable, or what a dotted path names."""
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            raise ImproperlyConfigured(
                f'{ROOT}["{key}"] is {value!r}, which cannot be imported ({error}); accepted: {accepted}'
            ) from error
    if not callable(value):
        raise ImproperlyConfigured(f'{ROOT}["{key}"] is {value!r}; accepted: {accepted}')
    found: Callable[..., Any] = value
    return found


def _arguments(key: str, ask: Callable[..., Any], accepted: str) -> tuple[bool, bool]:
    """→ whether it takes one argument by position, and whether it needs that one."""
    try:
        parameters = inspect.signature(ask).parameters.values()
    except (TypeError, ValueError):
        raise ImproperlyConfigured(
            f'{ROOT}["{key}"] is {ask!r}, which does not say what arguments it takes; {accepted}'
        ) from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1:
        raise ImproperlyConfigured(f'{ROOT}["{key}"] is {ask!r}, which needs {len(required)} arguments; {accepted}')
    if required and required[0] not in positional:
        raise ImproperlyConfigured(
            f'{ROOT}["{key}"] is {ask!r}, which takes {required[0].name!r} by name only; {accepted}, by position'
        )
    return bool(positional), bool(required)


def _forget(*, setting: str, **_: Any) -> None:
    if setting in (ROOT, "CACHES"):
        get_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="aicache.conf")
