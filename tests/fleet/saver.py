"""A process that saves, asks and drains as it is told, a JSON line each, and can be made to stand still at any step.

python -m tests.fleet.saver '{"database": {"ENGINE": "…", …}, "redis": "redis://…"}'
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
from typing import Any

from django.conf import settings

import tests.settings

TENANT = "acme"


def set_up(job: dict[str, Any]) -> None:
    import django

    own = {name: value for name, value in vars(tests.settings).items() if name.isupper()}
    own["DATABASES"] = {"default": job["database"]}
    own["CACHES"] = {"default": {**own["CACHES"]["default"], "LOCATION": job["redis"]}}
    settings.configure(**own)
    django.setup()


def say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def stand_still(at: str) -> None:
    say(at=at)
    time.sleep(3600)


def standing_still(at: str) -> None:
    """From now on: before a statement that begins so, or before ``commit``, ``stamp`` or ``mark``."""
    from django.db import connection

    from aicache.freshness import outbox, stamps

    def before(name: str, function: Any) -> Any:
        def standing(*args: Any, **kwargs: Any) -> Any:
            stand_still(name)
            return function(*args, **kwargs)

        return standing

    def execute(call: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(at):
            stand_still(at)
        return call(sql, *rest)

    connection.ensure_connection()
    match at:
        case "commit":
            connection._commit = before(at, connection._commit)  # type: ignore[method-assign]
        case "stamp":
            stamps.apply = before(at, stamps.apply)
        case "mark":
            outbox.mark = before(at, outbox.mark)
        case _:
            connection.execute_wrappers.append(execute)


def save(model: str, text: str, how: str = "autocommit", stop: str = "") -> None:
    from django.db import transaction

    from tests.freshness.library import models

    row: Any = models.Article(pk=1, title=text) if model == "article" else models.Ticket(pk=1, org_id=1, text=text)
    row._state.adding = False
    if stop:
        standing_still(stop)
    began, failed = time.monotonic(), ""
    try:
        if how == "autocommit":
            row.save()
        else:
            with transaction.atomic():
                if how == "failing hook":
                    transaction.on_commit(fail)
                row.save()
                if how == "rolled back":
                    raise ZeroDivisionError("rolled back")
    except ZeroDivisionError as error:
        failed = str(error)
    say(took=time.monotonic() - began, failed=failed)


def fail() -> None:
    raise ZeroDivisionError("the site's own hook")


def ask() -> None:
    """What the article says, by an answer that hangs on it."""
    import aicache
    from tests.freshness.library.models import Article

    with aicache.scope(tenant=TENANT, tags=["library.article:1"]) as calls:
        text = aicache.remember({"question": "What does it say?"}, lambda: Article.objects.get(pk=1).title)
    assert calls.last is not None
    say(text=text, status=calls.last.status, reason=calls.last.reason)


def drain() -> None:
    from django.core.management import CommandError, call_command

    told = io.StringIO()
    try:
        call_command("drain_invalidations", stdout=told, stderr=io.StringIO())
    except CommandError as error:
        say(failed=str(error))
    else:
        say(applied=int(re.findall(r"default: (\d+) applied", told.getvalue())[0]))


def main(job: dict[str, Any]) -> None:
    set_up(job)
    verbs = {"save": save, "ask": ask, "drain": drain}
    say(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        verbs[told.pop("do")](**told)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
