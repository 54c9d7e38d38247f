"""What the dashboard asks of a database: 200 tenants with three models each, for 90 days.

A process of its own: ``python -m benchmarks.dashboard``. On PostgreSQL, too, where the tests' one answers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aicache.testing.valkey import Valkey
from benchmarks.figures import progress, title

TIMES = 7


def run(server: Valkey) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.dashboard", server.url], check=True)


def main(url: str) -> None:
    title("The dashboard, 200 tenants × 3 models × 90 days (promised: at most 150 ms of the database's time)")
    from tests.services import SERVICES, postgresql_database

    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        databases: dict[str, Any] = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory) / "counts.sqlite3")}
        }
        if not SERVICES["postgresql"].trouble():
            databases["postgresql"] = stack.enter_context(postgresql_database())
        _set_up(url, databases)
        for alias in databases:
            _look(alias)
        from django.db import connections

        connections.close_all()


def _look(alias: str) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connections
    from django.test import Client, override_settings
    from django.test.utils import CaptureQueriesContext

    from aicache.ledger.report import PERIODS
    from tests.ledger.generated import generate

    progress(f"{alias}: generating …")
    call_command("migrate", verbosity=0, database=alias)
    number = generate(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    progress("\r")
    print(f"  {connections[alias].vendor}, {number:,} rows")
    client = Client()
    if alias == "default":
        User.objects.create_superuser("reader")
    client.force_login(User.objects.get())
    with override_settings(AICACHE={"DATABASE": alias, "SINGLE_TENANT": True}):
        for name in PERIODS:
            took, page, queries = [], [], 0
            for _ in range(TIMES):
                began = time.perf_counter()
                with CaptureQueriesContext(connections[alias]) as captured:
                    answer = client.get("/admin/aicache/metricbucket/", {"period": name})
                page.append(time.perf_counter() - began)
                assert answer.status_code == 200
                took.append(sum(float(query["time"]) for query in captured.captured_queries) * 1000)
                queries = len(captured)
            print(
                f"    {name:<4} {queries:3} queries, {sorted(took)[TIMES // 2]:7.1f} ms in the database "
                f"(least {min(took):.1f}), {sorted(page)[TIMES // 2] * 1000:7.1f} ms in all",
                flush=True,
            )


def _set_up(url: str, databases: dict[str, Any]) -> None:
    import django
    from django.conf import settings

    from tests import settings as tested

    known = {name: getattr(tested, name) for name in ("INSTALLED_APPS", "MIDDLEWARE", "TEMPLATES", "ROOT_URLCONF")}
    settings.configure(
        SECRET_KEY="for benchmarks",
        USE_TZ=True,
        STATIC_URL="/static/",
        ALLOWED_HOSTS=["*"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES=databases,
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        **known,
    )
    django.setup()


if __name__ == "__main__":
    main(sys.argv[1])
