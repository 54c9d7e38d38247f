from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

import aicache
from aicache.models import CacheEntry
from example_project.helpcentre.answers import NoAnswer, ask, client
from example_project.helpcentre.models import Article
from example_project.helpcentre.tenancy import TENANTS
from example_project.tour.records import Question, Save, Saved, Seen

THREADS = 25
MORE = "\n\nAsk us before you rely on this: it was changed a moment ago."


class Command(BaseCommand):
    help = "A worker process of the tour: reads what to do from its input until that ends. Not for use by hand."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # What anybody prints goes to the log; the real output is for answers only.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        client()
        with answers, ThreadPoolExecutor(THREADS) as threads:
            print(json.dumps("ready"), file=answers, flush=True)
            for line in sys.stdin:
                told = json.loads(line)
                if "save" in told:
                    answer: Any = asdict(_save(Save(**told["save"])))
                elif "copied" in told:
                    keys = set(told["copied"])
                    answer = CacheEntry.objects.filter(key__in=keys).count() == len(keys)
                else:
                    question = Question(**told["ask"])
                    answer = [seen.to_json() for seen in threads.map(_ask, [question] * question.times)]
                print(json.dumps(answer), file=answers, flush=True)


def _ask(question: Question) -> Seen:
    tenant, title = TENANTS[question.tenant], question.article
    article = Article.objects.get(tenant=tenant.slug, title=title) if title else None
    how: dict[str, Any] = {"bypass": question.bypass, "refresh": question.refresh, "idempotency_key": question.once}
    how |= {"stream": question.stream, "edition": question.catalogue, "policy": question.policy}
    began = time.perf_counter()
    with aicache.scope(tenant=tenant.slug):
        try:
            answer = ask(tenant, question.text, article, **how)
        except NoAnswer as failed:
            return Seen("", failed.info.status if failed.info else "error", failed.seconds)
        except aicache.IdempotencyConflict as conflict:
            return Seen("", "error", time.perf_counter() - began, differs=", ".join(conflict.parts))
    info = answer.info
    saved = info.saved_tokens, info.saved_usd
    return Seen(
        answer.text,
        info.status,
        answer.seconds,
        *saved,
        info.reason,
        info.key,
        first=answer.first,
        prompt_cache=info.prompt_cache,
        tokens_read=answer.tokens_read,
        tokens_written=answer.tokens_written,
    )


def _save(save: Save) -> Saved:
    article = Article.objects.get(tenant=save.tenant, title=save.article)
    if save.dies:
        _die_once_committed()
    if not save.as_it_is:
        article.body += MORE
    began = time.perf_counter()
    article.save()
    return Saved(f"{article._meta.label_lower}:{article.pk}", time.perf_counter() - began)


def _die_once_committed() -> None:
    """As ``kill -9`` would, at the worst moment: the change is there, and nobody has been told."""
    commit = connection.commit

    def commit_and_die() -> None:
        commit()
        os.kill(os.getpid(), signal.SIGKILL)

    connection.commit = commit_and_die  # type: ignore[method-assign]
