"""Figures for other systems: who gets them, and what they say."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from aicache import views
from aicache.ledger.counts import MINUTE
from aicache.models import CountingProcess, MetricBucket
from aicache.tenants import tenant_digest

JSON, METRICS = "/figures/stats.json", "/figures/metrics"
TOKEN = "a token of sixteen characters"
NOW = int(time.time()) // MINUTE * MINUTE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aicache_isolated")]


@pytest.fixture
def member() -> Client:
    user = User.objects.create_user("member", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_dashboard"))
    client = Client()
    client.force_login(user)
    return client


def bucket(tenant: str = "acme", model: str = "claude-sonnet-5", **figures: Any) -> None:
    whose = {"owner": tenant_digest(tenant), "tenant": tenant}
    MetricBucket.objects.create(process="one", span=MINUTE, start=NOW, model=model, policy="chat", **whose, **figures)


def by_token(path: str, token: str = TOKEN, scheme: str = "Bearer", **given: str) -> Any:
    return Client().get(path, given, headers={"authorization": f"{scheme} {token}"})


def samples(response: Any) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    assert response.status_code == 200, response.content
    families = text_string_to_metric_families(response.content.decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.mark.parametrize("path", [JSON, METRICS])
class TestWhoGetsThem:
    def test_nobody_who_is_not_known(self, path: str) -> None:
        answer = Client().get(path)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="aicache"')

    def test_staff_with_the_right_to_the_dashboard(self, path: str, member: Client) -> None:
        assert member.get(path).status_code == 200
        other = Client()
        other.force_login(User.objects.create_user("other", is_staff=True))
        assert other.get(path).status_code == 403
        visitor = User.objects.create_user("visitor")
        visitor.user_permissions.set(Permission.objects.filter(codename="view_dashboard"))
        other.force_login(visitor)
        assert other.get(path).status_code == 403

    def test_who_has_the_token(self, path: str) -> None:
        with override_settings(AICACHE={"METRICS_TOKEN": TOKEN}):
            assert by_token(path).status_code == 200
            assert by_token(path, scheme="bearer").status_code == 200
            for wrong in ("", TOKEN[:-1], TOKEN + "x", "é", TOKEN.upper()):
                assert by_token(path, wrong).status_code == 401
            assert by_token(path, scheme="Basic").status_code == 401

    def test_where_there_is_no_token_none_opens(self, path: str) -> None:
        assert by_token(path, "").status_code == 401

    def test_without_users_only_the_token_does(self, path: str) -> None:
        view = views.figures if path == JSON else views.metrics
        assert view(RequestFactory().get(path)).status_code == 401
        with override_settings(AICACHE={"METRICS_TOKEN": TOKEN}):
            asked = RequestFactory().get(path, headers={"authorization": f"Bearer {TOKEN}"})
            assert view(asked).status_code == 200

    def test_they_are_only_read_and_never_kept(self, path: str, member: Client) -> None:
        assert member.post(path).status_code == 405
        assert "no-store" in member.get(path)["Cache-Control"]


class TestJson:
    def test_says_what_other_dashboards_ask_for(self, member: Client) -> None:
        bucket(hit=6, coalesced=2, miss=4, bypass=9, saved_tokens=847, saved_nano_usd=10**9, premium_nano_usd=10**8)
        found = member.get(JSON).json()
        assert {name: value for name, value in found.items() if name not in ("tenants", "lost", "since")} == {
            "hit_rate_pct": 66.7,
            "total_requests": 12,
            "cache_hits": 8,
            "tokens_saved": 847,
            "est_cost_saved_usd": 0.9,
        }
        assert found["tenants"]["acme"]["net_usd"] == "0.9"

    def test_of_a_time_and_a_tenant(self, member: Client) -> None:
        bucket(hit=1)
        bucket("globex", hit=2)
        assert list(member.get(JSON, {"tenant": "globex"}).json()["tenants"]) == ["globex"]
        assert member.get(JSON, {"since": "1h"}).json()["cache_hits"] == 3

    @pytest.mark.parametrize("since", ["", "1", "yesterday", "1w", "-1h", "9" * 30 + "d", "٣h"])
    def test_refuses_what_is_no_length_of_time(self, member: Client, since: str) -> None:
        answer = member.get(JSON, {"since": since})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"since is {since!r}; accepted: a number with s, m, h or d")

    def test_limited_staff_hears_of_its_tenants_alone(self, member: Client) -> None:
        bucket(hit=1)
        bucket("globex", hit=2)
        long_ago = timezone.now() - timezone.timedelta(seconds=30)
        CountingProcess.objects.create(id="gone", host="elsewhere", pid=1, seen_at=long_ago, flushed=5, announced=21)
        assert member.get(JSON).json()["lost"] == 16
        with override_settings(AICACHE={"STAFF_TENANTS": lambda request: ["acme"]}):
            found = member.get(JSON).json()
            assert (list(found["tenants"]), found["cache_hits"], found["lost"]) == (["acme"], 1, None)
            assert member.get(JSON, {"tenant": "globex"}).json()["tenants"] == {}
            assert member.get(METRICS).status_code == 403

    def test_where_nothing_was_counted_there_is_no_rate(self, member: Client) -> None:
        assert member.get(JSON).json()["hit_rate_pct"] is None


class TestPrometheus:
    def test_says_what_was_counted(self, member: Client) -> None:
        bucket(hit=6, miss=4, error=-1, hit_0=5, hit_2=1, hit_us=9000, upstream_4=4, upstream_ms=12000, stale_blocked=3)
        bucket("globex", "claude-opus-5", hit=1, hit_10=1, spent_nano_usd=25 * 10**8)
        found = samples(member.get(METRICS))
        assert found["aicache_calls_total", "hit"] == 7
        assert found["aicache_stale_blocked_total", "claude-sonnet-5"] == 3
        assert found["aicache_spent_usd_total", "claude-opus-5"] == 2.5
        assert found["aicache_hit_seconds_bucket", "0.0005"] == 5
        assert found["aicache_hit_seconds_bucket", "0.002"] == 6
        assert found["aicache_hit_seconds_bucket", "+Inf"] == found["aicache_hit_seconds_count",] == 7
        assert found["aicache_upstream_seconds_sum",] == 12
        assert found["aicache_failed",] == -1

    def test_no_figure_that_may_be_taken_back_is_a_counter(self, member: Client) -> None:
        names = {name for name, *_ in samples(member.get(METRICS)) if name.endswith("_total")}
        assert not names & {"aicache_upstream_calls_total", "aicache_failed_total", "aicache_gate_saved_usd_total"}
        assert ("aicache_calls_total", "error") not in samples(member.get(METRICS))

    def test_there_are_so_many_models_at_most_and_no_tenants(self, member: Client) -> None:
        for number in range(70):
            bucket(f"tenant-{number}", f"model-{number:02}", hit=number + 1, saved_tokens=1)
        found = samples(member.get(METRICS))
        models = {labels[1] for labels in found if labels[0] == "aicache_saved_tokens_total"}
        assert len(models) == 51
        assert "(others)" in models
        assert sum(value for labels, value in found.items() if labels[0] == "aicache_saved_tokens_total") == 70
        assert not [labels for labels in found if any("tenant" in label for label in labels)]

    def test_without_the_library_it_says_what_to_install(self, member: Client, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "aicache.ledger.prometheus", None)
        answer = member.get(METRICS)
        assert (answer.status_code, "django-aicache[metrics]" in answer.content.decode()) == (501, True)

    def test_a_format_can_be_asked_for(self, member: Client) -> None:
        wanted = "application/openmetrics-text"
        answer = member.get(METRICS, headers={"accept": f"{wanted}; version=1.0.0"})
        assert answer["Content-Type"].startswith(wanted)
        assert member.get(METRICS)["Content-Type"].startswith("text/plain; version=")

    @pytest.mark.parametrize("wanted", ["application/openmetrics-text", "text/plain"])
    @pytest.mark.parametrize("version", ["newest", "=1", "é", ""])
    def test_one_that_cannot_be_understood_is_the_usual_one(self, member: Client, wanted: str, version: str) -> None:
        answer = member.get(METRICS, headers={"accept": f"{wanted}; version={version}"})
        assert (answer.status_code, b"aicache_calls_total" in answer.content) == (200, True)
