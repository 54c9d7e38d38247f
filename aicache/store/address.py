"""Where the server is, as the site's django-redis alias says, with timeouts of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.connection import parse_url

# What an unreachable server may cost the first call that meets it: once to connect, or once to be answered.
BUDGET: Final = 0.2


@dataclass(frozen=True, slots=True)
class Address:
    """``urls``: the first is the primary. ``options``: the alias's OPTIONS, see the docs of django-redis."""

    urls: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_alias(cls, configuration: Mapping[str, Any]) -> Address:
        """From one value of Django's CACHES. Raises ValueError where it names no server."""
        location = configuration.get("LOCATION") or ()
        urls = tuple(location) if isinstance(location, list | tuple) else tuple(str(location).split(","))
        if not urls:
            raise ValueError("its LOCATION is empty; accepted: redis://host:port/db, rediss://…, unix://…")
        for url in urls:
            parse_url(url)
        return cls(urls, configuration.get("OPTIONS") or {})

    @property
    def is_cluster(self) -> bool:
        return "cluster" in str(self.options.get("REDIS_CLIENT_CLASS", "")).lower()

    @property
    def is_tls(self) -> bool:
        return self.urls[0].startswith("rediss:")

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        return [(host, int(port)) for host, port in self.options.get("SENTINELS", ())]

    @property
    def label(self) -> str:
        """For messages: without credentials."""
        parsed = parse_url(self.urls[0])
        return str(parsed.get("path") or f"{parsed.get('host', 'localhost')}:{parsed.get('port', 6379)}")

    def parameters(self) -> dict[str, Any]:
        """What a connection needs: host, credentials, TLS. Timeouts, retries and decoding are ours, not the alias's."""
        chosen = {**self.options.get("CONNECTION_POOL_KWARGS", {}), **parse_url(self.urls[0])}
        for option, name in (("USERNAME", "username"), ("PASSWORD", "password")):
            if self.options.get(option):
                chosen[name] = self.options[option]
        for theirs in OVERRIDDEN:
            chosen.pop(theirs, None)
        return chosen


OVERRIDDEN: Final = (
    "connection_class",
    "decode_responses",
    "encoding",
    "health_check_interval",
    "max_connections",
    "parser_class",
    "protocol",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "socket_connect_timeout",
    "socket_timeout",
    "timeout",
)
