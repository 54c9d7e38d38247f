from __future__ import annotations

import json
import uuid
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

import aicache
from aicache.ledger.figures import STATUSES
from aicache.models import CountingProcess
from aicache.testing import ClaudeServer, Reply
from tests.answers import ask
from tests.claude.conftest import Asker
from tests.freshness.far import far
from tests.ledger.buckets import bucket

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db]


def told(*words: str, **options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("cache_stats", *words, stdout=out, stderr=err, no_color=True, **options)
    return out.getvalue(), err.getvalue()


def as_json(*words: str, **options: Any) -> dict[str, Any]:
    out, _ = told("--json", *words, **options)
    found: dict[str, Any] = json.loads(out)
    return found


def counted(tenant: str, *, ago: int = 0, **figures: int) -> None:
    """By another process, so many minutes ago."""
    bucket(tenant, ago=ago, process=uuid.uuid4().hex, **figures).save()


def test_what_this_process_has_done_is_told_at_once(claude: ClaudeServer) -> None:
    asker = Asker("sync", claude.url)
    with aicache.scope(tenant="acme"):
        asker.create()
        hit = aicache.info(asker.create())
        with aicache.scope(bypass=True):
            asker.create()

    (figures,) = (found := as_json())["tenants"].values()
    assert set(found["tenants"]) == {"acme"}
    assert (found["lost"], found["since"]) == (0, None)
    assert {status: figures[status] for status in STATUSES} == {
        **dict.fromkeys(STATUSES, 0),
        "hit": 1,
        "miss": 1,
        "bypass": 1,
    }
    assert (figures["calls"], figures["upstream_calls"], figures["hit_rate"]) == (3, claude.count, 0.5)
    assert Decimal(figures["saved_usd"]) == hit.saved_usd
    assert Decimal(figures["net_usd"]) == hit.saved_usd
    assert figures["saved_tokens"] == hit.saved_tokens > 0


def test_money_is_a_decimal_without_an_exponent() -> None:
    counted("acme", hit=1, saved_nano_usd=20, premium_nano_usd=20)
    counted("globex", hit=1, saved_nano_usd=3_000_000_000_000, premium_nano_usd=1_500_000_000)
    tenants = as_json()["tenants"]
    assert (tenants["acme"]["saved_usd"], tenants["acme"]["net_usd"]) == ("0.00000002", "0")
    assert (tenants["globex"]["saved_usd"], tenants["globex"]["net_usd"]) == ("3000", "2998.5")


def test_the_hit_rate_is_none_where_nobody_asked_the_cache() -> None:
    counted("acme", bypass=3)
    assert as_json()["tenants"]["acme"]["hit_rate"] is None
    out, _ = told()
    assert " –" in out


@pytest.mark.parametrize("since", ["90s", "15m", "24h", "7d"])
@pytest.mark.parametrize("as_option", [False, True])
def test_since_counts_what_is_younger(since: str, as_option: bool) -> None:
    minutes = {"90s": 1, "15m": 15, "24h": 24 * 60, "7d": 7 * 24 * 60}[since]
    counted("acme", ago=minutes - 1, miss=1)
    counted("acme", ago=minutes + 61, miss=10)
    given = ((), {"since": since}) if as_option else (("--since", since), {})
    assert as_json(*given[0], **given[1])["tenants"]["acme"]["miss"] == 1
    out, _ = told(*given[0], **given[1])
    assert out.startswith("Calls since 20")


@pytest.mark.parametrize("since", ["", "24", "h", "1.5h", "-5m", "5 m", "1w", "soon", "99999999d"])
def test_since_must_be_a_span_of_time(since: str) -> None:
    with pytest.raises(CommandError, match=r"since is .*; accepted: .* 90s, 15m, 24h or 7d"):
        told(f"--since={since}")


def test_one_tenant_may_be_asked_for() -> None:
    counted("acme", miss=1)
    counted("globex", miss=2)
    assert set(as_json("--tenant", "acme")["tenants"]) == {"acme"}
    out, _ = told("--tenant", "acme")
    assert "globex" not in out
    assert "tenants" not in out


def test_a_tenant_that_nobody_knows_is_said_to_be_none() -> None:
    counted("acme", miss=1)
    out, err = told("--tenant", "initech")
    assert out == "No call of 'initech' was counted.\n"
    out, err = told("--tenant", "initech", "--json")
    assert json.loads(out)["tenants"] == {}
    assert err == "No call of 'initech' was counted.\n"
    out, err = told("--tenant", "acme", "--since", "0s", "--json")
    assert "No call of 'acme' was counted since" in err or json.loads(out)["tenants"]


def test_nothing_is_said_to_be_nothing() -> None:
    assert told() == ("No call was counted.\n", "")


TABLE = """\
All calls

                                               upstream                        tokens   dollars   dollars
tenant     calls  hit  coalesced  miss  error     calls           hit rate      saved     saved       net
─────────────────────────────────────────────────────────────────────────────────────────────────────────
acme       1,010  750         50   200     10       210  ████████░░  80.0%  1,500,000   $0.0000   $0.0000
globex         1    0          0     1      0         1  ░░░░░░░░░░   0.0%          0  $12.3456  $12.0000
─────────────────────────────────────────────────────────────────────────────────────────────────────────
2 tenants  1,011  750         50   201     10       211  ████████░░  79.9%  1,500,000  $12.3456  $12.0000

hit rate  (hit + stale + semantic + coalesced) ÷ (those + miss)
net       saved, less what writing the prompt cache had cost: a repeat would have found it written
unpriced  2 answers saved a call whose price is not known, and count as nothing
none      stale, semantic, bypass, unscoped, degraded
lost      at most 7 counts of killed processes are missing in any of these figures
"""


NARROW = """\
All calls

tenant                       acme             globex          2 tenants
───────────────────────────────────────────────────────────────────────
calls                       1,010                  1              1,011
hit                           750                  0                750
coalesced                      50                  0                 50
miss                          200                  1                201
error                          10                  0                 10
upstream calls                210                  1                211
hit rate        ████████░░  80.0%  ░░░░░░░░░░   0.0%  ████████░░  79.9%
tokens saved            1,500,000                  0          1,500,000
dollars saved             $0.0000           $12.3456           $12.3456
dollars net               $0.0000           $12.0000           $12.0000

hit rate  (hit + stale + semantic + coalesced) ÷ (those + miss)
net       saved, less what writing the prompt cache had cost: a repeat would
          have found it written
unpriced  2 answers saved a call whose price is not known, and count as nothing
none      stale, semantic, bypass, unscoped, degraded
lost      at most 7 counts of killed processes are missing in any of these
          figures
"""


@pytest.mark.parametrize(("columns", "shown"), [(120, TABLE), (80, NARROW)])
def test_the_table_is_made_to_be_looked_at(monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    counted("acme", hit=750, coalesced=50, miss=200, upstream_calls=210, error=10, saved_tokens=1_500_000)
    counted("globex", miss=1, upstream_calls=1, saved_nano_usd=12_345_600_000, premium_nano_usd=345_600_000, unpriced=2)
    CountingProcess.objects.create(id="x", host="far", pid=1, seen_at="2020-01-01T00:00Z", flushed=5, announced=12)

    assert told()[0] == shown


class Nowhere:
    def allow_migrate(self, *_: Any, **__: Any) -> bool:
        return False


@override_settings(DATABASE_ROUTERS=[Nowhere()])
def test_where_there_is_no_place_for_counts_it_says_so(aicache_memory: Any) -> None:
    with pytest.raises(CommandError, match="nothing is counted: the site's routers want none"):
        told()
    ask("prices?")
    out, err = told("--json")
    assert json.loads(out)["tenants"]["acme"]["miss"] == 1
    assert "this process alone" in err


def test_a_database_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    with far("refuses", tmp_path) as alias, override_settings(AICACHE={"DATABASE": alias}):
        with pytest.raises(CommandError, match=f"the database '{alias}' cannot be asked: "):
            told()


def test_an_unknown_model_is_unpriced(claude: ClaudeServer) -> None:
    claude.answer = lambda _: Reply.text("yes", model="claude-of-the-far-future")
    asker = Asker("sync", claude.url)
    with aicache.scope(tenant="acme"):
        for _ in range(3):
            asker.create()
    figures = as_json()["tenants"]["acme"]
    assert (figures["hit"], figures["unpriced"], figures["saved_usd"]) == (2, 2, "0")
    assert figures["saved_tokens"] > 0
