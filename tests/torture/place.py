"""Where it happens: a database of its own, Django's settings, and the truth, which is asked past Django and aicache."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services import SERVICES, postgresql_database

TABLES = ("document", "notice", "shelf", "page", "tombstone")


class Truth:
    """The committed versions, on a connection of one's own in autocommit."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._connection: Any
        if configuration["ENGINE"].endswith("sqlite3"):
            self._connection = sqlite3.connect(
                configuration["NAME"], timeout=30, isolation_level=None, check_same_thread=False
            )
        else:
            import psycopg

            self._connection = psycopg.connect(
                dbname=configuration["NAME"],
                user=configuration["USER"],
                password=configuration["PASSWORD"],
                host=configuration["HOST"],
                port=configuration["PORT"],
                autocommit=True,
            )

    def versions(self, cells: Iterable[int]) -> dict[int, int]:
        """All of one moment."""
        wanted = ",".join(map(str, cells))
        rows = " UNION ALL ".join(f"SELECT id, version FROM torture_{name} WHERE id IN ({wanted})" for name in TABLES)
        with self._lock:
            found = self._connection.execute(f"SELECT id, MAX(version) FROM ({rows}) AS rows_ GROUP BY id").fetchall()
        return {int(number): int(version) for number, version in found}


@contextmanager
def database(wanted: str, directory: Path) -> Iterator[dict[str, Any]]:
    """Django's configuration of a new one, which is dropped in the end. ``auto``: PostgreSQL where it answers."""
    service = SERVICES["postgresql"]
    trouble = service.trouble() if wanted != "sqlite" else ""
    if wanted == "postgresql" and trouble:
        raise SystemExit(f"PostgreSQL does not answer: {trouble}")
    if wanted == "sqlite" or trouble:
        name = str(directory / "torture.sqlite3")
        with sqlite3.connect(name) as made:
            made.execute("PRAGMA journal_mode = WAL")
        made.close()
        yield {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": name,
            "OPTIONS": {"timeout": 30, "init_command": "PRAGMA synchronous = OFF"},
            "CONN_MAX_AGE": None,
        }
        return
    with postgresql_database() as configuration:
        yield {**configuration, "CONN_MAX_AGE": None}


def set_up(configuration: dict[str, Any], redis: str, log: Path) -> None:
    """Django, with the tables. Leaves no connection open: processes are forked from this one."""
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="for tests",
        USE_TZ=True,
        INSTALLED_APPS=["aicache", "tests.torture"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": configuration},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis}},
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
            "handlers": {"file": {"class": "logging.FileHandler", "filename": str(log), "formatter": "line"}},
            "root": {"handlers": ["file"], "level": "WARNING"},
        },
        AICACHE={
            "POLICIES": {
                "brief": {"ttl": 0.5, "jitter": 0, "stale_while_revalidate": 60},
                "strict": {"consistency": "strict"},
                "strict_brief": {"ttl": 0.5, "jitter": 0, "stale_while_revalidate": 60, "consistency": "strict"},
            },
        },
    )
    django.setup()
    from django.apps import apps
    from django.db import connection, connections

    with connection.schema_editor() as editor:
        for label in ("torture", "aicache"):
            for model in apps.get_app_config(label).get_models():
                editor.create_model(model)
    from tests.torture.models import Label

    Label.objects.create(name="linked")
    connections.close_all()


def clients(url: str) -> tuple[Any, Any]:
    """A sync and an async one, which all inherit: what is imported for them before the fork is imported once."""
    import anthropic

    import aicache

    options: dict[str, Any] = {"base_url": url, "api_key": "for tests", "max_retries": 0, "timeout": 60}
    found = tuple(aicache.wrap(kind(**options)) for kind in (anthropic.Anthropic, anthropic.AsyncAnthropic))
    assert all(client.messages for client in found)
    return found  # type: ignore[return-value]
