from __future__ import annotations

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, close_old_connections

import aicache
from example_project.helpcentre.answers import NoAnswer, ask
from example_project.helpcentre.models import Article
from example_project.helpcentre.tenancy import TENANTS, Tenant

# None that the pages suggest: whoever asks one of those by hand is to be the first.
QUESTIONS: Final = (
    "Do you ship abroad?",
    "Can I pay by invoice?",
    "Where is my parcel?",
    "Is there a warranty?",
    "How do I reach a person?",
    "Can I change my order?",
    "Do you repair what breaks?",
)
TOGETHER: Final = 4
"""Visitors at a time."""
EDITED: Final = 0.02
"""How often, of its visits, somebody changes an article of the last tenant's instead."""


class Command(BaseCommand):
    help = "Visits the help centre as people do, until it is ended: so that there is something to be seen."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pause", type=float, default=2.0, help="seconds, on average, between a visitor's visits")

    def handle(self, *args: Any, pause: float, **options: Any) -> None:
        logging.getLogger("example_project").setLevel(logging.ERROR)  # whoever wants to see what fails visits by hand
        with ThreadPoolExecutor(TOGETHER) as visitors:
            for each in [visitors.submit(_visit, pause) for _ in range(TOGETHER)]:
                each.result()


def _visit(pause: float) -> None:
    dice = random.Random()
    while True:
        time.sleep(dice.expovariate(1 / pause))
        *others, last = TENANTS.values()
        tenant = dice.choice([*others, *others, last])
        try:
            if tenant is last and dice.random() < EDITED:
                _edit(dice, tenant)
            else:
                _question(dice, tenant)
        except (NoAnswer, DatabaseError):  # it is away: the next visitor may have more luck
            continue
        finally:
            close_old_connections()


def _question(dice: random.Random, tenant: Tenant) -> None:
    """Most ask what others have asked before."""
    question = QUESTIONS[min(int(dice.expovariate(0.4)), len(QUESTIONS) - 1)]
    article = dice.choice([None, *Article.objects.filter(tenant=tenant.slug)])
    with aicache.scope(tenant=tenant.slug, locale="en"):
        ask(tenant, question, article, stream=dice.random() < 0.3, policy=dice.choice(["chat", "chat", "live"]))


def _edit(dice: random.Random, tenant: Tenant) -> None:
    if (article := Article.objects.filter(tenant=tenant.slug).order_by("?").first()) is not None:
        article.body = f"{article.body.partition(' (')[0]} (edition {dice.randrange(1000)})"
        article.save()
