"""What ``cache_stats`` says of the provider's prompt cache."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from aicache.core.usage import PromptUse
from aicache.ledger import counting
from aicache.ledger.place import Place
from tests.ledger.buckets import counted

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db]

TITLE = "At the provider's prompt cache"


def told(*words: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("cache_stats", *words, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def shown(*words: str) -> str:
    """From the second table on."""
    _, title, rest = told(*words)[0].partition(TITLE)
    return title + rest


def as_json(*words: str) -> dict[str, Any]:
    """By tenant and model."""
    found = json.loads(told("--json", *words)[0])["tenants"]
    return {tenant: figures["prompt_cache"] for tenant, figures in found.items()}


def prompted(tenant: str, model: str, *, ago: int = 0, **figures: int) -> None:
    """By another process, so many minutes ago."""
    counted(tenant, ago=ago, process=uuid.uuid4().hex, model=model, **figures)


def called(tenant: str, calls: int) -> None:
    counted(tenant, miss=calls)


@pytest.fixture
def several() -> None:
    """Two tenants, one of whom has two models."""
    called("globex", 3000)
    called("acme", 1200)
    prompted(
        "acme",
        "claude-sonnet-5",
        reads=1150,
        writes=52,
        redundant_writes=2,
        read_tokens=4_600_000,
        written_tokens=208_000,
        redundant_tokens=8000,
        gate_waits=49,
        gate_waited_ms=61_234,
        redundant_nano_usd=18_400_000,
        gate_nano_usd=450_800_000,
        missed_system_changed=1003,
    )
    prompted(
        "acme",
        "claude-opus-5",
        reads=10,
        writes=9,
        redundant_writes=9,
        redundant_nano_usd=1_414_000_000,
        unpriced_prompts=2,
    )
    prompted("globex", "claude-haiku-4-5", reads=2800, gate_waits=190, gate_waited_ms=1_234_567, gate_nano_usd=-123_000)
    prompted(
        "globex", "claude-haiku-4-5", ago=90, writes=200, missed_other=1, missed_system_changed=1, unpriced_prompts=1
    )


TABLE = """\
At the provider's prompt cache

                          calls  calls  redundant  dollars   calls  seconds   dollars   dollars
tenant  model              read  wrote     writes     lost  waited   waited     saved       net
───────────────────────────────────────────────────────────────────────────────────────────────
globex  claude-haiku-4-5  2,800    200          0  $0.0000     190  1,234.6  -$0.0001  -$0.0001
acme    claude-opus-5        10      9          9  $1.4140       0      0.0   $0.0000  -$1.4140
acme    claude-sonnet-5   1,150     52          2  $0.0184      49     61.2   $0.4508   $0.4324

redundant calls that paid for writing a prefix of the prompt that lived, and could have been read
lost      what these writes cost beyond reading
saved     what waiting at the gate has saved, less what that cost; net: less what was lost all the same
unpriced  of so many calls it is not known what they lost or saved, which counts as nothing: 3
misses    system_changed 1,004, other 1
"""


NARROW = """\
At the provider's prompt cache

tenant                      globex           acme             acme
model             claude-haiku-4-5  claude-opus-5  claude-sonnet-5
──────────────────────────────────────────────────────────────────
calls read                   2,800             10            1,150
calls wrote                    200              9               52
redundant writes                 0              9                2
dollars lost               $0.0000        $1.4140          $0.0184
calls waited                   190              0               49
seconds waited             1,234.6            0.0             61.2
dollars saved             -$0.0001        $0.0000          $0.4508
dollars net               -$0.0001       -$1.4140          $0.4324

redundant calls that paid for writing a prefix of the prompt that lived, and
          could have been read
lost      what these writes cost beyond reading
saved     what waiting at the gate has saved, less what that cost; net: less
          what was lost all the same
unpriced  of so many calls it is not known what they lost or saved, which counts
          as nothing: 3
misses    system_changed 1,004, other 1
"""


@pytest.mark.usefixtures("several")
class TestTheTable:
    @pytest.mark.parametrize(("columns", "expected"), [(120, TABLE), (80, NARROW)])
    def test_is_made_to_be_looked_at(self, monkeypatch: pytest.MonkeyPatch, columns: int, expected: str) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert shown() == expected

    def test_is_turned_where_it_does_not_fit_and_would_if_it_were(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = TABLE.splitlines()
        width, turned = len(lines[4]), len(NARROW.splitlines()[3])
        for columns, is_turned in ((width, False), (width - 1, True), (turned, True), (turned - 1, False)):
            monkeypatch.setenv("COLUMNS", str(columns))
            assert (lines[3] not in shown()) is is_turned

    def test_comes_after_that_of_the_calls_and_is_turned_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        first, _, _ = told()[0].partition(TITLE)
        heads = [line for line in first.splitlines() if line.startswith("tenant")]
        assert heads == ["tenant     calls   miss     calls           hit rate   saved    saved      net"]
        assert first.endswith("bypass, unscoped, degraded, error\n\n")

    def test_says_since_when(self) -> None:
        out = shown("--since", "1h")
        assert out.startswith(f"{TITLE} since 20")
        (globex,) = (line.split() for line in out.splitlines() if line.startswith("globex"))
        assert globex[:6] == ["globex", "claude-haiku-4-5", "2,800", "0", "0", "$0.0000"]
        assert "system_changed 1,003\n" in out

    def test_is_of_one_tenant_where_that_is_asked_for(self) -> None:
        out = shown("--tenant", "globex")
        assert "acme" not in out
        assert "misses    system_changed 1, other 1\n" in out
        assert "which counts as nothing: 1\n" in out


def test_there_is_no_table_where_nothing_was_done() -> None:
    called("acme", 5)
    out, _ = told()
    assert "acme" in out
    for word in ("prompt cache\n", "redundant", "unpriced", "misses"):
        assert word not in out
    assert as_json() == {"acme": {}}


def test_nothing_is_said_of_prices_and_misses_where_there_is_nothing_to_say() -> None:
    prompted("acme", "claude-opus-5", reads=1)
    _, _, notes = shown().partition("\n\nredundant")
    assert [line[:8].rstrip() for line in notes.splitlines()[1:]] == ["lost", "saved"]


def test_what_this_process_has_done_is_told_at_once() -> None:
    prompted("acme", "claude-opus-5", reads=2)
    used = PromptUse("claude-opus-5", "wait", 0.25, 4000, 50, 30, Decimal("0.02"), Decimal("0.5"), "tools_changed")
    counting.prompted(Place("acme", "claude-opus-5"), used)
    assert as_json()["acme"]["claude-opus-5"] == {
        "reads": 3,
        "writes": 1,
        "redundant_writes": 1,
        "read_tokens": 4000,
        "written_tokens": 50,
        "redundant_tokens": 30,
        "redundant_usd": "0.02",
        "waits": 1,
        "waited_seconds": 0.25,
        "saved_usd": "0.5",
        "net_usd": "0.48",
        "unpriced": 0,
        "cache_miss_reasons": {"tools_changed": 1},
    }


def test_json_has_them_by_tenant_and_model(several: None) -> None:
    called("initech", 1)
    found = as_json()
    assert {tenant: [*models] for tenant, models in found.items()} == {
        "globex": ["claude-haiku-4-5"],
        "acme": ["claude-opus-5", "claude-sonnet-5"],
        "initech": [],
    }
    haiku = found["globex"]["claude-haiku-4-5"]
    assert (haiku["writes"], haiku["waited_seconds"], haiku["unpriced"]) == (200, 1234.567, 1)
    assert (haiku["saved_usd"], haiku["net_usd"], haiku["redundant_usd"]) == ("-0.000123", "-0.000123", "0")
    assert haiku["cache_miss_reasons"] == {"system_changed": 1, "other": 1}
    assert found["acme"]["claude-opus-5"]["net_usd"] == "-1.414"
    assert as_json("--since", "1h")["globex"]["claude-haiku-4-5"]["writes"] == 0
    assert as_json("--tenant", "acme") == {"acme": found["acme"]}


def test_money_in_json_is_a_decimal_without_an_exponent() -> None:
    prompted("acme", "claude-opus-5", redundant_nano_usd=20, gate_nano_usd=3_000_000_000_020)
    found = as_json()["acme"]["claude-opus-5"]
    assert (found["redundant_usd"], found["saved_usd"], found["net_usd"]) == ("0.00000002", "3000.00000002", "3000")


def test_a_price_that_is_not_known_is_said_to_be_none() -> None:
    counting.prompted(
        Place("acme", "claude-of-the-far-future"),
        PromptUse("claude-of-the-far-future", written=9, redundant=9, redundant_usd=None),
    )
    out, _ = told()
    assert "not known what they lost or saved, which counts as nothing: 1\n" in out
    found = as_json()["acme"]["claude-of-the-far-future"]
    assert (found["unpriced"], found["redundant_writes"], found["redundant_usd"]) == (1, 1, "0")


class Nowhere:
    def allow_migrate(self, *_: Any, **__: Any) -> bool:
        return False


@override_settings(DATABASE_ROUTERS=[Nowhere()])
def test_where_there_is_no_place_for_counts_those_of_this_process_are_told() -> None:
    counting.prompted(Place("acme", "claude-opus-5"), PromptUse("claude-opus-5", read=4000))
    out, err = told()
    assert TITLE in out
    assert "this process alone" in err
    assert as_json()["acme"]["claude-opus-5"]["reads"] == 1
