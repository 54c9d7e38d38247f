"""What can be done in the admin, from the first press to what visitors see of it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Browse
from tests.browser.page import Page
from tests.browser.site import Site
from tests.example_project.visits import Visitor, reason_on, status_on

APP = "/admin/aicache"
FIRST = "#result_list tbody tr:first-child th a"
DASHBOARD = f"{APP}/metricbucket/?period=1h"
WRONG = "#aicache-tile-wrong"


def kept(page: Page, question: str) -> None:
    """Goes to the entry's page, as soon as there is one."""
    while not page.count(FIRST):
        page.go(f"{APP}/cacheentry/?q={question}")
    page.press(FIRST)


def test_a_tag_is_purged_and_its_answers_are_made_anew(browse: Browse, site: Site) -> None:
    visitor, about = Visitor(site.url), {"question": "Who purges this?"}
    assert [status_on(visitor.post("/acme/articles/2/", **about)) for _ in range(2)] == ["miss", "hit"]
    page = browse(staff=True)
    kept(page, "purges")
    page.go(f"{APP}/invalidationtag/purge/")
    page.fill("[name=tag]", "helpcentre.article:2")
    page.fill("[name=tenant]", "acme")
    page.press("#content [type=submit]")
    assert "$" in page.text(".aicache-doomed")
    page.shot("deeds/purge")
    page.press("#content [type=submit]")
    assert "1 tag was purged" in page.text(".messagelist")
    again = visitor.post("/acme/articles/2/", **about)
    assert (status_on(again), reason_on(again)) == ("miss", "invalidated:helpcentre.article:2")
    page.go(DASHBOARD)
    page.do(lambda tab: tab.wait_for_selector("#aicache-tags >> text=helpcentre.article:2"))
    assert page.text("#aicache-tile-blocked .aicache-value") != "0"


def test_an_answer_that_is_marked_as_wrong_is_retired_and_counted(browse: Browse, site: Site) -> None:
    visitor, about = Visitor(site.url), {"question": "Is this mistaken?"}
    for _ in range(2):
        visitor.post("/globex/ask/", **about)
    page = browse(390, 844, staff=True)
    kept(page, "mistaken")
    page.press("text=Mark as wrong…")
    page.shot("deeds/wrong")
    page.press("#content [type=submit]")
    assert "1 answer was marked as wrong" in page.text(".messagelist")
    assert status_on(visitor.post("/globex/ask/", **about)) == "miss"
    page.go(DASHBOARD)
    page.do(lambda tab: tab.wait_for_selector(f"{WRONG} >> text=/[1-9] of [0-9]+ that were checked/"))


@pytest.fixture
def limited(site: Site, browse: Browse) -> Page:
    """Of somebody who may do all of the app's, to Acme's rows alone."""
    site.run(
        "from django.contrib.auth.models import Group, Permission, User\n"
        "user, _ = User.objects.get_or_create(username='anna', is_staff=True)\n"
        "user.set_password('of-acme-alone')\n"
        "user.save()\n"
        "user.groups.add(Group.objects.get_or_create(name='acme')[0])\n"
        "user.user_permissions.set(Permission.objects.filter(content_type__app_label='aicache'))\n"
    )
    page = browse()
    page.go("/admin/login/?next=/admin/")
    page.fill("[name=username]", "anna")
    page.fill("[name=password]", "of-acme-alone")
    page.press("[type=submit]")
    return page


def test_who_may_see_one_tenant_finds_no_trace_of_another(limited: Page, browse: Browse, site: Site) -> None:
    visitor, everything = Visitor(site.url), browse(staff=True)
    for tenant in ("acme", "globex"):
        visitor.post(f"/{tenant}/ask/", question="Whose is this one?")
    kept(everything, "Whose+is+this")
    everything.go(DASHBOARD)
    everything.do(lambda tab: tab.wait_for_selector("#aicache-tenants-table >> text=globex"))
    for path in ("metricbucket/?period=1h", "cacheentry/", "invalidationtag/", "invalidation/", "idempotencykey/"):
        assert limited.go(f"{APP}/{path}") == 200
        assert "globex" not in limited.text()
    limited.go(DASHBOARD)
    limited.do(lambda tab: tab.wait_for_selector("#aicache-tenants-table >> text=acme"))
    limited.shot("deeds/limited")
    assert limited.axe() == []
    limited.go(f"{APP}/metricbucket/?period=1h&tenant=globex")
    assert limited.text("#aicache-tile-avoided .aicache-value") == "0"
