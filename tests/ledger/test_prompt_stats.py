"""What was counted at the provider's prompt cache, read again: each count once, whoever has it."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from aicache.core.callinfo import CallInfo
from aicache.core.usage import PromptUse
from aicache.ledger import counting, rows, stats
from aicache.ledger.counts import MINUTE, Counts
from aicache.ledger.flusher import Flusher
from aicache.ledger.prompts import MISSED, PROMPT_FIGURES, PROMPT_MONEY
from aicache.ledger.stats import HOUR, NOTHING, NOTHING_PROMPTED, PromptStats
from aicache.models import CallCount, PromptCount
from aicache.tenants import tenant_digest
from tests.ledger.conftest import ALIAS

LARGE, SMALL = "claude-opus-5", "claude-haiku-4-5"
NOW = int(time.time()) // MINUTE * MINUTE


def use(tokens: int = 1, model: str = LARGE) -> PromptUse:
    return PromptUse(model, "open", read=tokens, redundant_usd=Decimal("0.25"))


def counted(
    tenant: str = "acme", model: str = LARGE, *, process: str = "one", minute: int = NOW, **figures: int
) -> None:
    owner = tenant_digest(tenant)
    PromptCount.objects.create(
        process=process, minute=minute, owner=owner, tenant=tenant, model=model, **{"reads": 1, **figures}
    )


def reads(using: str = "default", **given: Any) -> dict[str, dict[str, int]]:
    return told(stats.read(using, **given))


def told(found: stats.Stats) -> dict[str, dict[str, int]]:
    return {
        tenant: {model: figures["reads"] for model, figures in models.items()}
        for tenant, models in found.prompts.items()
    }


@pytest.mark.usefixtures("place")
class TestWithMemory:
    """What others have written, what this process has, and what it has not yet."""

    def by_another(self, *uses: PromptUse, tenant: str = "acme") -> None:
        counts = Counts()
        for one in uses:
            counts.prompted(tenant, one)
        rows.write_cells(counts.known(), "another", using=ALIAS)

    def test_each_count_is_there_once(self, flusher: Flusher) -> None:
        self.by_another(use(), use(), use(model=SMALL))
        counting.prompted("acme", use())
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 3}}
        flusher.close()
        assert PromptCount.objects.using(ALIAS).filter(process=flusher.process.id).count() == 1
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 3}}
        counting.prompted("acme", use())
        counting.prompted("acme", use(model="new"))
        counting.prompted("globex", use())
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 4, "new": 1}, "globex": {LARGE: 1}}
        assert stats.read(ALIAS).prompts["acme"][LARGE].redundant_usd == 1
        flusher.close()
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 4, "new": 1}, "globex": {LARGE: 1}}

    def test_what_is_written_while_it_is_read_is_there_once(
        self, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = stats._known

        def meanwhile(*given: Any) -> Any:
            found = known(*given)
            counting.prompted("acme", use())
            counting.prompted("acme", use(model=SMALL))
            flusher.close()
            return found

        counting.prompted("acme", use())
        monkeypatch.setattr(stats, "_known", meanwhile)
        assert reads(ALIAS) == {"acme": {LARGE: 1, SMALL: 1}}

    def test_of_minutes_that_it_has_let_go_it_reads_what_it_wrote(self, flusher: Flusher) -> None:
        counting.prompted("acme", use())
        (cell,) = flusher.counts.known()
        earlier = cell.copy()
        earlier.minute -= 5 * MINUTE
        rows.write_cells([earlier], flusher.process.id, using=ALIAS)
        assert reads(ALIAS) == {"acme": {LARGE: 2}}


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestRead:
    def test_all_processes_minutes_and_hours_add_up(self) -> None:
        counted()
        counted(minute=NOW - MINUTE)
        counted(process="other", reads=5)
        counted(process="", minute=NOW // HOUR * HOUR - 60 * HOUR, reads=20)
        counted(model=SMALL, reads=100)
        counted("globex", reads=1000)
        assert reads() == {"acme": {LARGE: 27, SMALL: 100}, "globex": {LARGE: 1000}}

    def test_since_leaves_out_what_is_older(self) -> None:
        counted(minute=NOW - 3 * MINUTE)
        counted(minute=NOW - 10 * MINUTE, reads=10)
        counted(process="", minute=(NOW - 60 * HOUR) // HOUR * HOUR, reads=100)
        assert reads(since=NOW - 3 * MINUTE + 30) == {"acme": {LARGE: 1}}
        assert reads(since=NOW - 10 * MINUTE) == {"acme": {LARGE: 11}}
        assert reads(since=NOW - 60 * HOUR + 59) == {"acme": {LARGE: 111}}
        assert reads(since=NOW + MINUTE) == {}

    def test_one_tenant_may_be_asked_for(self) -> None:
        counted()
        counted("globex", reads=2)
        assert reads(tenant="globex") == {"globex": {LARGE: 2}}
        assert reads(tenant="initech") == {}

    def test_what_is_in_memory_is_chosen_likewise(self, flusher: Flusher) -> None:
        counting.prompted("acme", use())
        counting.prompted("globex", use())
        minutes = {cell.minute for cell in flusher.counts.known()}
        for read in (stats.unwritten, lambda **given: stats.read("default", **given)):
            assert told(read()) == {"acme": {LARGE: 1}, "globex": {LARGE: 1}}
            assert told(read(tenant="acme", since=min(minutes) + 59)) == {"acme": {LARGE: 1}}
            assert told(read(since=max(minutes) + MINUTE)) == {}
            assert told(read(tenant="initech")) == {}

    def test_they_come_in_the_order_of_the_tenants_and_by_the_name_of_the_model(self, flusher: Flusher) -> None:
        for tenant, calls in {"acme": 1, "globex": 3, "initech": 2}.items():
            for model in (LARGE, SMALL):
                counting.prompted(tenant, use(model=model))
            for number in range(calls):
                flusher.counts.ended(str(number), tenant, CallInfo("miss"), Decimal(0), retried=False)
        found = stats.read("default")
        assert list(found.prompts) == list(found.tenants) == ["globex", "initech", "acme"]
        assert {tuple(models) for models in found.prompts.values()} == {(SMALL, LARGE)}

    def test_a_tenant_of_whom_nothing_else_was_counted_is_one(self) -> None:
        counted("globex")
        CallCount.objects.create(process="one", minute=NOW, owner=tenant_digest("acme"), tenant="acme", miss=1)
        found = stats.read("default")
        assert list(found.tenants) == ["acme", "globex"]
        assert found.tenants["globex"] == NOTHING
        assert list(found.prompts) == ["globex"]

    def test_tenants_of_one_name_are_told_apart_by_one_name_in_both(self) -> None:
        for digest in "ab":
            place = {"process": "one", "minute": NOW, "owner": digest * 32, "tenant": "cut short"}
            PromptCount.objects.create(**place, model=LARGE, reads=1)
        CallCount.objects.create(**place, miss=1)
        found = stats.read("default")
        assert told(found) == {"cut short [bbbbbbbb]": {LARGE: 1}, "cut short [aaaaaaaa]": {LARGE: 1}}
        assert set(found.tenants) == set(found.prompts)

    def test_every_figure_is_read(self) -> None:
        names = (*PROMPT_FIGURES, *PROMPT_MONEY)
        counted(**{name: number for number, name in enumerate(names, 1)})
        counted(process="other", **dict.fromkeys(names, 1000))
        (found,) = stats.read("default").prompts["acme"].values()
        assert {name: found[name] for name in names} == {name: 1000 + number for number, name in enumerate(names, 1)}


class TestFigures:
    def of(self, **numbers: int) -> PromptStats:
        return NOTHING_PROMPTED + PromptStats({**NOTHING_PROMPTED.numbers, **numbers})

    def test_money_and_time_are_exact(self) -> None:
        found = self.of(redundant_nano_usd=3, gate_nano_usd=10_000_000_001, waited_ms=1234)
        assert found.redundant_usd == Decimal("0.000000003")
        assert found.gate_usd == Decimal("10.000000001")
        assert found.net_usd == Decimal("9.999999998")
        assert found.waited == 1.234

    def test_the_net_may_be_a_loss(self) -> None:
        assert self.of(redundant_nano_usd=5, gate_nano_usd=-2).net_usd == Decimal("-0.000000007")

    def test_misses_are_named_by_the_providers_words(self) -> None:
        assert self.of().missed == {}
        assert self.of(missed_tools_changed=2, missed_other=1).missed == {"tools_changed": 2, "other": 1}
        assert self.of(**dict.fromkeys(MISSED.values(), 1)).missed == dict.fromkeys(MISSED, 1)
