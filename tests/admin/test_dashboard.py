"""The dashboard, as its reader finds it: what it says, to whom, and at what price."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aicache.cache import get_cache
from aicache.ledger import compaction, report, stats
from aicache.ledger.compaction import DAY, HOUR, compact
from aicache.ledger.counts import MINUTE
from aicache.ledger.place import ALL, OF_ALL, OF_OWNER
from aicache.ledger.report import PERIODS
from aicache.models import CountingProcess, Hotspot, Invalidation, MetricBucket
from aicache.tenants import tenant_digest
from tests.admin.conftest import Staff
from tests.admin.kept import kept, question
from tests.admin.pages import text
from tests.ledger.generated import generate

URL = "/admin/aicache/metricbucket/"
NOW = int(time.time())

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aicache_isolated")]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute passes in a test."""
    for module in (compaction, report):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture
def guest(staff: Staff) -> Client:
    return staff("view_dashboard")


def bucket(tenant: str = "acme", *, back: int = 0, span: int = MINUTE, **figures: Any) -> None:
    """Of one tenant, in the minute that is so many seconds ago."""
    fields = {"model": "claude-sonnet-5", "policy": "chat", "owner": tenant_digest(tenant), "tenant": tenant, **figures}
    process = "one" if span == MINUTE else ""
    MetricBucket.objects.create(process=process, span=span, start=(NOW - back) // span * span, **fields)


def spot(kind: str, **fields: Any) -> None:
    whose = {"owner": tenant_digest("acme"), "tenant": "acme"}
    Hotspot.objects.create(span=HOUR, start=NOW // HOUR * HOUR, kind=kind, **{"digest": "d" * 32, **whose, **fields})


def begin_of(period: report.Period) -> int:
    """A whole minute, hour or day."""
    return NOW // period.own_step * period.own_step - period.seconds + period.own_step


def exported(reader: Client, **asked: str) -> list[list[str]]:
    """Lines of the table, the heads left out."""
    sheet = reader.get(URL + "export/", asked).content.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(sheet)))[1:]


def tile(page: Any, name: str) -> tuple[str, str]:
    """→ the figure, and what it is made of."""
    assert page.status_code == 200
    pattern = rf'(?s)id="aicache-tile-{name}">.*?<dd[^>]*>(.*?)</dd>\s*<dd[^>]*>(.*?)</dd>'
    found = re.search(pattern, page.content.decode())
    assert found
    return found[1].strip(), found[2].strip()


def series(page: Any) -> dict[str, Any]:
    found = re.search(r'(?s)id="aicache-series" type="application/json">(.*?)</script>', page.content.decode())
    assert found
    known: dict[str, Any] = json.loads(found[1])
    return known


class TestWhoMaySeeIt:
    def test_is_a_right_of_its_own(self, staff: Staff) -> None:
        other = staff("view_metricbucket", "view_cacheentry")
        guest = staff("view_dashboard")
        for place in ("", "pulse/", "export/"):
            assert [client.get(URL + place).status_code for client in (guest, other, Client())] == [200, 403, 302]

    def test_it_stands_in_the_admins_list_for_those(self, guest: Client, staff: Staff) -> None:
        assert f'href="{URL}"' in guest.get("/admin/").content.decode()
        assert f'href="{URL}"' not in staff("view_cacheentry").get("/admin/").content.decode()

    @pytest.mark.parametrize("place", ["add/", "1/change/", "1/delete/", "1/history/"])
    def test_there_is_nothing_to_be_changed(self, place: str) -> None:
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        bucket(hit=1)
        assert client.get(URL + place).status_code == 404


class TestTiles:
    def test_say_what_they_are_made_of(self, guest: Client) -> None:
        bucket(hit=6, coalesced=2, miss=2, error=5, upstream_calls=7, saved_nano_usd=3 * 10**9, premium_nano_usd=10**9)
        bucket(
            "globex",
            miss=2,
            upstream_calls=2,
            spent_nano_usd=5 * 10**9 // 2,
            unpriced=3,
            unpriced_spent=1,
            stale_blocked=4,
            writes=9,
            redundant_writes=2,
            redundant_nano_usd=10**7,
            gate_nano_usd=3 * 10**7,
        )
        page = guest.get(URL)

        assert tile(page, "hit_rate") == ("66.7 %", "8 of 12 calls that asked the cache")
        assert tile(page, "saved")[0] == "$2.00"
        assert "less $1.00 for writing" in tile(page, "saved")[1]
        assert "3 answers have no known price" in tile(page, "saved")[1]
        assert tile(page, "avoided") == ("8", "9 were made, for $2.50; 1 of unknown price")
        assert tile(page, "blocked")[0] == "4"
        assert tile(page, "redundant")[0] == "2"
        assert "of 9 writes to the prompt cache, which cost $0.01 more" in tile(page, "redundant")[1]

    def test_a_share_that_is_wrong_is_told_with_how_sure_that_is(self, guest: Client) -> None:
        assert tile(guest.get(URL), "wrong")[0] == "–"
        bucket(checked=50, wrong=1)
        value, note = tile(guest.get(URL), "wrong")
        assert value == "2.0 %"
        assert "1 of 50 that were checked; with 95 % confidence between 0.4 % and 10.5 %" in note

    def test_times_are_read_from_the_bins(self, guest: Client) -> None:
        bucket(hit_2=100, upstream_4=20)  # between 1 and 2 ms; between 2 and 4 s
        value, note = tile(guest.get(URL), "times")
        assert value == "1.5 ms"
        assert note == "half of the hits take no longer, 95 % no longer than 1.9 ms; Claude: 3.0 s and 3.9 s"

    def test_where_nothing_was_served_no_time_is_told(self, guest: Client) -> None:
        bucket(upstream_4=20)
        assert tile(guest.get(URL), "times") == ("–", "there was no hit in this time; Claude: 3.0 s and 3.9 s")


class TestPeriods:
    @pytest.mark.parametrize("name", PERIODS)
    def test_count_what_is_in_them_whatever_its_span(self, guest: Client, name: str) -> None:
        period = PERIODS[name]
        bucket(hit=1)
        bucket(hit=10, back=NOW - begin_of(period))
        bucket(hit=1000, back=NOW - begin_of(period) + MINUTE)
        bucket(hit=1000, back=-2 * MINUTE)  # of a machine whose clock is ahead
        page = guest.get(URL, {"period": name})
        assert tile(page, "avoided")[0] == "11"
        found = series(page)
        assert (found["at"][0], sum(found["calls"]["hit"])) == (begin_of(period), 11)
        assert found["at"] == list(range(begin_of(period), NOW + 1, period.step))
        assert (found["calls"]["hit"][0], found["calls"]["hit"][-1]) == (10, 1)
        assert [line[1] for line in exported(guest, period=name)] == ["11"]

    @pytest.mark.parametrize("name", PERIODS)
    def test_are_the_same_for_all_tenants_together_and_for_each(self, guest: Client, name: str) -> None:
        """Though what is told of each is rolled up sooner."""
        period = PERIODS[name]
        for back in range(0, period.seconds, period.step):
            MetricBucket.objects.create(process="one", span=MINUTE, start=NOW // MINUTE * MINUTE - back, miss=1)
        told = [guest.get(URL, {"period": name, "tenant": tenant}) for tenant in ("", "(nobody)")]
        compact()
        told += [guest.get(URL, {"period": name, "tenant": tenant}) for tenant in ("", "(nobody)")]
        numbers = {sum(series(page)["calls"]["miss"]) for page in told}
        numbers |= {int(line[1]) for line in exported(guest, period=name)}
        numbers.add(stats.read("default", since=begin_of(period)).total["miss"])
        assert len(numbers) == 1

    @pytest.mark.parametrize("name", PERIODS)
    def test_have_a_trend_of_spans_that_are_equally_long(self, guest: Client, name: str) -> None:
        """However coarse the rows are."""
        period = PERIODS[name]
        for start in range(begin_of(period), NOW + 1, period.own_step):
            bucket(miss=1, back=NOW - start, span=period.own_step, total=OF_OWNER)
        (tenant,) = report.Report("default", period).tenants()
        *full, last = tenant.trend
        assert len(set(full)) == 1
        assert 0 < last <= full[0]
        assert len(full) < report.SLOTS

    def test_what_was_rolled_up_counts_once(self, guest: Client) -> None:
        for tenant in ("acme", "globex"):
            bucket(tenant, hit=3, back=5 * DAY, span=DAY)
            bucket(tenant, hit=3, back=5 * DAY, span=DAY, total=OF_OWNER, model="", policy="")
        bucket(hit=6, back=5 * DAY, span=DAY, total=OF_ALL, owner=ALL, tenant="")
        bucket(hit=1)
        page = guest.get(URL, {"period": "30d"})
        assert tile(page, "avoided")[0] == "7"
        assert re.findall(r"tenant=(\w+)", page.content.decode()) == ["acme", "globex"]
        assert tile(guest.get(URL, {"period": "30d", "tenant": "acme"}), "avoided")[0] == "4"

    @pytest.mark.parametrize("period", ["", "1y", "<script>", "90d' OR 1=1"])
    def test_of_any_other_name_are_the_usual_one(self, guest: Client, period: str) -> None:
        page = guest.get(URL, {"period": period})
        assert len(series(page)["at"]) == 24
        assert "<script>alert" not in page.content.decode()


class TestTenants:
    def test_those_with_the_most_calls_come_first(self, guest: Client) -> None:
        bucket("few", hit=1)
        bucket("many", hit=50, miss=50, stale=2, wrong=1, checked=4)
        page = guest.get(URL)
        assert re.findall(r"tenant=(\w+)", page.content.decode()) == ["many", "few"]
        assert "50.0 %" in text(page) or "51.0 %" in text(page)

    def test_one_can_be_chosen_by_name(self, guest: Client) -> None:
        bucket("acme", hit=5)
        bucket("globex", hit=7)
        assert tile(guest.get(URL, {"tenant": "globex"}), "avoided")[0] == "7"
        assert tile(guest.get(URL, {"tenant": "nobody knows"}), "avoided")[0] == "0"

    def test_calls_of_nobodys_are_one(self, guest: Client) -> None:
        MetricBucket.objects.create(process="one", span=MINUTE, start=NOW // MINUTE * MINUTE, unscoped=3)
        page = guest.get(URL)
        assert "(nobody)" in text(page)
        assert series(guest.get(URL, {"tenant": "(nobody)"}))["calls"]["other"][-1] == 3

    def test_names_are_text(self, guest: Client) -> None:
        bucket('"><script>alert(1)</script>', hit=1)
        page = guest.get(URL).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page

    def test_a_spreadsheet_gets_what_is_shown_and_computes_none_of_it(self, guest: Client) -> None:
        evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", " =1+1", "\u3000=1", "＝1+1", "＋1", "－1", "＠SUM(A1)"]
        for name in (*evil, "acme", 'a"b,c'):
            bucket(name, hit=3, miss=1, saved_nano_usd=-(10**9), premium_nano_usd=0)
        answer = guest.get(URL + "export/", {"period": "24h"})
        assert answer["Content-Type"] == "text/csv; charset=utf-8"
        assert 'filename="aicache-24h.csv"' in answer["Content-Disposition"]
        head, *lines = csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))
        assert head[:4] == ["Tenant", "Calls", "Hit rate", "Saved, net"]
        assert {line[0] for line in lines} == {*(f"'{name}" for name in evil), "acme", 'a"b,c'}
        assert {tuple(line[1:4]) for line in lines} == {("4", "0.75", "-1")}

    def test_who_has_not_asked_the_cache_has_no_rate(self, guest: Client) -> None:
        bucket(bypass=3)
        _head, (name, calls, rate, *_) = csv.reader(io.StringIO(guest.get(URL + "export/").content.decode("utf-8-sig")))
        assert (name, calls, rate) == ("acme", "3", "")
        assert 'data-value="-1">–</td>' in guest.get(URL).content.decode()


def whose(request: Any) -> Any:
    return ["acme", "initech"] if request.user.has_perm("aicache.view_metricbucket") else []


class TestLimitedStaff:
    @pytest.fixture(autouse=True)
    def limits(self, settings: Any) -> None:
        settings.AICACHE = {"STAFF_TENANTS": whose}

    @pytest.fixture
    def limited(self, staff: Staff) -> Client:
        bucket("acme", hit=3, model="claude-of-acme")
        bucket("initech", hit=1)
        bucket("globex", hit=50, miss=7, model="claude-of-globex", policy="of-globex", expired=9)
        MetricBucket.objects.create(process="one", span=MINUTE, start=NOW // MINUTE * MINUTE, unscoped=100)
        spot("tag", label="tag-of-acme", times=1)
        spot("tag", label="tag-of-globex", times=1, owner=tenant_digest("globex"), tenant="globex", digest="e" * 32)
        under_way = {tenant_digest("globex"): 5, tenant_digest("acme"): 2}
        now = timezone.now() + timezone.timedelta(seconds=60)
        CountingProcess.objects.create(id="one", host="h", pid=1, seen_at=now, under_way=under_way)
        return staff("view_dashboard", "view_metricbucket")

    @pytest.mark.parametrize("asked", [{}, {"tenant": "globex"}, {"tenant": "(nobody)"}, {"tenant": "(everybody)"}])
    def test_sees_and_exports_its_tenants_alone(self, limited: Client, asked: dict[str, str]) -> None:
        for period in PERIODS:
            page = limited.get(URL, {**asked, "period": period})
            export = limited.get(URL + "export/", {**asked, "period": period})
            for said in (page, export):
                shown = said.content.decode().replace('value="globex"', "").replace("tenant=globex", "")
                assert "globex" not in shown
            assert tile(page, "avoided")[0] == ("0" if asked else "4")
            assert sum(series(page)["calls"]["other"]) == 0
            assert ("tag-of-acme" in text(page)) is not bool(asked)
        assert limited.get(URL + "pulse/", asked).json()["in_flight"] == ("0" if asked else "2")

    def test_is_not_told_by_the_pulse_how_much_others_call(self, limited: Client) -> None:
        def counted(**asked: str) -> int:
            number: int = limited.get(URL + "pulse/", asked).json()["counted"]
            return number

        before = counted()
        CountingProcess.objects.update(flushed=12345)
        bucket("globex", hit=70, policy="another")
        assert (counted(), counted(tenant="globex")) == (before, 0)
        bucket("acme", hit=1, policy="another")
        assert counted() == before + 1

    def test_sees_nothing_where_it_may_see_nothing(self, limited: Client, staff: Staff) -> None:
        nobody = staff("view_dashboard")
        assert tile(nobody.get(URL), "avoided")[0] == "0"
        assert list(csv.reader(io.StringIO(nobody.get(URL + "export/").content.decode("utf-8-sig"))))[1:] == []

    def test_hears_nothing_of_how_the_site_is_set_up(self, limited: Client) -> None:
        with override_settings(AICACHE={"TENANT": None, "STAFF_TENANTS": whose}):
            assert "aicache.W001" not in text(limited.get(URL))


@pytest.mark.django_db(transaction=True, databases="__all__")
class TestWhatCostsMost:
    def test_leads_on_to_the_answer_and_to_the_tag(self, guest: Client) -> None:
        spot("miss", label="claude-opus-5", key="f" * 64, times=12, nano_usd=4 * 10**9)
        spot("tag", label="shop.product:42", times=3, nano_usd=10**9)
        spot("prefix", label="claude-sonnet-5 · 8200", times=2, nano_usd=10**8)
        bucket(miss=1)
        page = guest.get(URL).content.decode()
        assert f'href="/admin/aicache/cacheentry/?q={"f" * 64}"' in page
        assert 'href="/admin/aicache/invalidationtag/?q=shop.product%3A42"' in page
        assert "claude-sonnet-5 · 8200" in page

    def test_tells_what_was_asked_to_whoever_may_read_that(self, guest: Client, staff: Staff) -> None:
        kept_one = kept(request=question("Do you repair zips?"))
        spot("miss", label="claude-opus-5", key=kept_one.key, times=12, nano_usd=4 * 10**9)
        bucket(miss=1)
        assert "Do you repair zips? acme, claude-opus-5 12 $4.00" in text(
            staff("view_dashboard", "view_cacheentry", "view_content").get(URL)
        )
        for client in (guest, staff("view_dashboard", "view_content"), staff("view_dashboard", "view_cacheentry")):
            page = text(client.get(URL))
            assert "zips" not in page
            assert f"{kept_one.key[:12]} · claude-opus-5" in page

    def test_tells_nobody_what_was_asked_of_another_tenants_answer(self, staff: Staff, settings: Any) -> None:
        kept_one = kept(request=question("Do you repair zips?"), tenant="globex")
        spot("miss", label="claude-opus-5", key=kept_one.key, times=12, nano_usd=4 * 10**9)
        settings.AICACHE = {"STAFF_TENANTS": whose}
        page = text(staff("view_dashboard", "view_metricbucket", "view_cacheentry", "view_content").get(URL))
        assert kept_one.key[:12] in page
        assert "zips" not in page

    def test_a_policy_whose_answers_die_too_soon_is_told_with_how_much_too_soon(self, guest: Client) -> None:
        bucket(policy="chat", miss=10, expired=10, expired_nano_usd=10**9, late_10m=2, late_1h=6, late_6h=9, late_1d=10)
        page = text(guest.get(URL))
        assert "chat 5 min 60.0 % came within 1 h 10 $1.00" in page

    def test_a_model_without_a_price_is_said_to_be_unpriced(self, guest: Client) -> None:
        bucket(model="claude-unheard-of", miss=3, upstream_calls=3, unpriced_spent=3)
        assert "claude-unheard-of 3 0.0 % 3 $0.00 3 unpriced" in text(guest.get(URL))


class TestTrouble:
    def test_is_said_first(self, guest: Client) -> None:
        assert "nobody drains" not in text(guest.get(URL))
        Invalidation.objects.create(digest="d" * 32, tag="a", made_at=timezone.now() - timezone.timedelta(minutes=5))
        assert "1 invalidation is pending, for 5 min: nobody drains" in text(guest.get(URL))

    def test_a_check_that_fails_is_told(self, guest: Client) -> None:
        with override_settings(AICACHE={"TENANT": None}):
            assert "aicache.W001" in text(guest.get(URL))
        with override_settings(AICACHE={"SINGLE_TENANT": True}):
            assert "aicache.W001" not in text(guest.get(URL))

    def test_redis_out_of_reach_is_told(self, guest: Client, settings: Any) -> None:
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
        assert "Redis is out of reach" in text(guest.get(URL))

    def test_a_cache_that_is_switched_off_is_told(self, guest: Client, aicache_memory: Any) -> None:
        get_cache().store.switch(False)
        assert "switched off for the whole site" in text(guest.get(URL))

    def test_counts_of_killed_processes_are_said_to_be_missing(self, guest: Client) -> None:
        long_ago = timezone.now() - timezone.timedelta(seconds=30)
        CountingProcess.objects.create(id="gone", host="elsewhere", pid=1, seen_at=long_ago, flushed=5, announced=21)
        assert "at most 16 counts are missing" in text(guest.get(URL))


class TestEmpty:
    def test_says_how_to_fill_it(self, guest: Client) -> None:
        assert "aicache.wrap(anthropic.Anthropic())" in text(guest.get(URL))
        bucket(hit=1)
        assert "aicache.wrap(" not in text(guest.get(URL))


class TestPulse:
    def test_says_whether_anything_was_counted_and_what_is_under_way(self, guest: Client) -> None:
        now, acme = timezone.now() + timezone.timedelta(seconds=60), tenant_digest("acme")  # however slow this is
        CountingProcess.objects.create(id="one", host="h", pid=1, seen_at=now, flushed=7, under_way={acme: 2, "x": 1})
        CountingProcess.objects.create(
            id="two", host="h", pid=1, seen_at=now - timezone.timedelta(seconds=120), flushed=1, under_way={acme: 9}
        )
        assert guest.get(URL + "pulse/").json() == {"counted": 8, "in_flight": "3"}
        bucket("acme", hit=3, upstream_calls=1)
        bucket("globex", hit=50)
        assert guest.get(URL + "pulse/", {"tenant": "acme"}).json() == {"counted": 4, "in_flight": "2"}


class TestPrice:
    @pytest.mark.parametrize("name", PERIODS)
    def test_is_a_fixed_number_of_queries(self, guest: Client, name: str) -> None:
        def asked() -> int:
            with CaptureQueriesContext(connections["default"]) as queries:
                assert guest.get(URL, {"period": name}).status_code == 200
            return len(queries)

        bucket(hit=1)
        asked()
        few = asked()
        generate("default", days=12, tenants=12)
        assert asked() == few
        assert few <= 25
