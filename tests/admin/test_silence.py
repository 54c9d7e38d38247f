"""A database that does not answer is told on each page that reads it, and the rest of the admin goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client, override_settings

from tests.admin.conftest import Staff
from tests.freshness.far import far

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

PAGES = [
    "metricbucket/",
    "metricbucket/pulse/",
    "metricbucket/export/",
    *(f"{model}/" for model in ("cacheentry", "idempotencykey", "invalidation", "invalidationtag")),
    "cacheentry/1/change/",
    "cacheentry/purge/?id=1",
    "invalidationtag/purge/",
]


@pytest.fixture
def keeper(staff: Staff) -> Client:
    models = ("cacheentry", "idempotencykey", "invalidation", "invalidationtag")
    return staff(*(f"view_{model}" for model in models), "purge_entry", "purge_tag", "view_dashboard")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_that_its_database_does_not_answer(keeper: Client, page: str, tmp_path: Path) -> None:
    with far("refuses", tmp_path) as alias, override_settings(AICACHE={"DATABASE": alias}):
        answer = keeper.get(f"/admin/aicache/{page}")
        assert answer.status_code == 503
        assert f"The database <code>{alias}</code>, or another one" in answer.content.decode()
        assert keeper.get("/admin/").status_code == 200


def test_who_may_not_see_a_page_is_told_nothing_of_its_database(staff: Staff, tmp_path: Path) -> None:
    nobody = staff("view_invalidation")
    with far("refuses", tmp_path) as alias, override_settings(AICACHE={"DATABASE": alias}):
        assert nobody.get("/admin/aicache/metricbucket/").status_code == 403
        assert Client().get("/admin/aicache/metricbucket/").status_code == 302
