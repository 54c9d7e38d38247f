from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.management.base import BaseCommand

import aicache
from example_project.helpcentre.answers import NoAnswer, ask, client
from example_project.helpcentre.tenancy import TENANTS
from example_project.tour.records import Question, Seen

THREADS = 25


class Command(BaseCommand):
    help = "A worker process of the tour: reads questions from its input until that ends. Not for use by hand."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # What anybody prints goes to the log; the real output is for answers only.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        client()
        with answers, ThreadPoolExecutor(THREADS) as threads:
            print(json.dumps("ready"), file=answers, flush=True)
            for line in sys.stdin:
                question = Question(**json.loads(line))
                seen = threads.map(_ask, [question] * question.times)
                print(json.dumps([one.to_json() for one in seen]), file=answers, flush=True)


def _ask(question: Question) -> Seen:
    with aicache.scope(tenant=question.tenant):
        try:
            answer = ask(TENANTS[question.tenant], question.text, bypass=question.bypass)
        except NoAnswer as failed:
            return Seen("", failed.info.status if failed.info else "error", failed.seconds)
    return Seen(answer.text, answer.info.status, answer.seconds, answer.tokens_saved, answer.info.saved_usd)
