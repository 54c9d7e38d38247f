"""A process that asks Claude as it is told, a JSON line each, inside a transaction of its own or outside.

python -m tests.fleet.asker '{"database": {"ENGINE": "…", …}, "redis": "redis://…", "claude": "http://…"}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.fleet.saver import TENANT, say, set_up

claude: Any = None


def ask(question: str, key: str | None = None, **request: Any) -> None:
    say(**answered(question, key, **request))


def answered(question: str, key: str | None = None, **request: Any) -> dict[str, Any]:
    import aicache

    messages = [{"role": "user", "content": question}]
    with aicache.scope(tenant=TENANT, tags=["shop"], idempotency_key=key) as calls:
        try:
            message = claude.messages.create(model="claude-sonnet-5", max_tokens=50, messages=messages, **request)
        except aicache.IdempotencyConflict as conflict:
            return {"conflict": list(conflict.parts)}
    call = calls.last
    assert call is not None
    return {"status": call.status, "reason": call.reason, "text": message.content[0].text}


def inside(question: str, first: str, key: str | None = None, fails: bool = False) -> None:
    """In the middle of a transaction that reads or writes first, and then writes; or is rolled back where it fails."""
    from django.db import connection, transaction
    from django.test.utils import CaptureQueriesContext

    from tests.freshness.library.models import Article

    told: dict[str, Any] = {}
    try:
        with transaction.atomic():
            if first == "write":
                Article.objects.filter(pk=1).update(body="before")
            article = Article.objects.get(pk=1)
            with CaptureQueriesContext(connection) as queries:
                told = answered(question, key)
            told["queries"] = len(queries.captured_queries)
            article.title = question
            article.save()
            if fails:
                raise ZeroDivisionError("rolled back")
    except ZeroDivisionError:
        pass
    told["title"] = Article.objects.get(pk=1).title
    say(**told)


def written() -> None:
    """Once nothing waits to be written any more."""
    from aicache.durable import get_writer

    say(written=get_writer().flush(20))


def flush() -> None:
    """Of Redis, all that there is."""
    from aicache.cache import get_cache
    from aicache.store.tags import one

    get_cache().store.connections.run(lambda *_: one("FLUSHALL"))
    say(flushed=True)


def main(job: dict[str, Any]) -> None:
    global claude
    set_up(job)

    import anthropic

    import aicache
    from aicache import cache

    cache.BUDGET = 30.0  # a busy machine is no database that hangs
    claude = aicache.wrap(anthropic.Anthropic(base_url=job["claude"], api_key="for tests", max_retries=0))
    verbs = {"ask": ask, "inside": inside, "written": written, "flush": flush}
    say(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        verbs[told.pop("do")](**told)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
