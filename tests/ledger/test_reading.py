"""What was counted, read again by tenant and model: each count once, whoever has it."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from aicache.core.callinfo import CallInfo
from aicache.core.usage import PromptUse
from aicache.ledger import counting, rows, stats
from aicache.ledger.compaction import DAY, EVER
from aicache.ledger.counts import MINUTE, Counts
from aicache.ledger.figures import MISSED, SUMMED
from aicache.ledger.flusher import Flusher
from aicache.ledger.place import ALL, OF_ALL, OF_OWNER, OTHERS, Owner, Place
from aicache.ledger.stats import HOUR, NOTHING, Figures
from aicache.models import MetricBucket
from aicache.tenants import tenant_digest
from tests.ledger.buckets import counted, this_minute
from tests.ledger.conftest import ALIAS
from tests.ledger.prompts import LARGE, SMALL, at


def use() -> PromptUse:
    return PromptUse(LARGE, "open", read=1, redundant_usd=Decimal("0.25"))


def reads(using: str = "default", **given: Any) -> dict[str, dict[str, int]]:
    return told(stats.read(using, **given))


def told(found: stats.Stats) -> dict[str, dict[str, int]]:
    return {
        tenant: {model: figures["reads"] for model, figures in models.items()}
        for tenant, models in found.prompts.items()
    }


@pytest.mark.usefixtures("place", "flusher")
class TestWithMemory:
    """What others have written, what this process has, and what it has not yet."""

    def by_another(self, *places: Place) -> None:
        counts = Counts()
        for place in places:
            counts.prompted(place, use())
        rows.write_cells(counts.known(), "another", using=ALIAS)

    def test_each_count_is_there_once(self, flusher: Flusher) -> None:
        self.by_another(at(), at(), at(SMALL))
        counting.prompted(at(), use())
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 3}}
        flusher.close()
        assert MetricBucket.objects.using(ALIAS).filter(process=flusher.process.id).count() == 1
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 3}}
        counting.prompted(at(), use())
        counting.prompted(at("new"), use())
        counting.prompted(at(LARGE, "globex"), use())
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 4, "new": 1}, "globex": {LARGE: 1}}
        assert stats.read(ALIAS).prompts["acme"][LARGE].usd("redundant") == 1
        flusher.close()
        assert reads(ALIAS) == {"acme": {SMALL: 1, LARGE: 4, "new": 1}, "globex": {LARGE: 1}}

    def test_what_is_written_while_it_is_read_is_there_once(
        self, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = stats._known

        def meanwhile(*given: Any) -> Any:
            found = known(*given)
            counting.prompted(at(), use())
            counting.prompted(at(SMALL), use())
            flusher.close()
            return found

        counting.prompted(at(), use())
        monkeypatch.setattr(stats, "_known", meanwhile)
        assert reads(ALIAS) == {"acme": {LARGE: 1, SMALL: 1}}

    def test_of_minutes_that_it_has_let_go_it_reads_what_it_wrote(self, flusher: Flusher) -> None:
        counting.prompted(at(), use())
        (cell,) = flusher.counts.known()
        earlier = cell.copy()
        earlier.minute -= 5 * MINUTE
        rows.write_cells([earlier], flusher.process.id, using=ALIAS)
        assert reads(ALIAS) == {"acme": {LARGE: 2}}

    def test_who_is_known_by_name_and_by_a_row_is_one(self, flusher: Flusher) -> None:
        named = at(), at(LARGE, Owner(tenant_digest("acme"), "acme", False))
        for place in (*named, *reversed(named)):
            counting.prompted(place, use())
        assert reads(ALIAS) == {"acme": {LARGE: 4}}
        flusher.close()
        assert reads(ALIAS) == {"acme": {LARGE: 4}}
        assert MetricBucket.objects.using(ALIAS).get().reads == 4

    def test_the_policies_of_one_model_are_added_up(self, flusher: Flusher) -> None:
        for policy in ("chat", "daily", "chat"):
            counting.prompted(Place("acme", LARGE, policy), use())
        flusher.close()
        counting.prompted(Place("acme", LARGE, "static"), use())
        assert MetricBucket.objects.using(ALIAS).count() == 2
        assert reads(ALIAS) == {"acme": {LARGE: 4}}


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestRead:
    def test_all_processes_minutes_hours_days_and_what_came_before_add_up(self) -> None:
        counted(model=LARGE, reads=1)
        counted(model=LARGE, reads=1, start=this_minute() - MINUTE)
        counted(model=LARGE, process="other", reads=5)
        counted(model=LARGE, process="", span=HOUR, start=this_minute() // HOUR * HOUR - 60 * HOUR, reads=20)
        counted(model=LARGE, process="", span=DAY, start=this_minute() // DAY * DAY - 60 * DAY, reads=300)
        counted(model=SMALL, reads=100)
        counted("globex", model=LARGE, reads=1000)
        counted("", owner=OTHERS, process="", span=EVER, start=0, reads=7)
        assert reads() == {"acme": {LARGE: 327, SMALL: 100}, "globex": {LARGE: 1000}, "(others)": {"": 7}}

    def test_the_sums_of_all_owners_are_nobodys(self) -> None:
        counted(model=LARGE, process="", span=HOUR, start=this_minute() // HOUR * HOUR, reads=20)
        of_an_hour = {"process": "", "span": HOUR, "start": this_minute() // HOUR * HOUR, "reads": 20}
        counted("", owner=ALL, total=OF_ALL, model=LARGE, **of_an_hour)
        counted("acme", total=OF_OWNER, **of_an_hour)
        assert reads() == {"acme": {LARGE: 20}}

    def test_since_leaves_out_what_is_older(self) -> None:
        counted(model=LARGE, reads=1, ago=3)
        counted(model=LARGE, ago=10, reads=10)
        counted(model=LARGE, process="", span=HOUR, start=(this_minute() - 60 * HOUR) // HOUR * HOUR, reads=100)
        counted(model=LARGE, process="", span=DAY, start=(this_minute() - 60 * DAY) // DAY * DAY, reads=1000)
        counted(model=LARGE, process="", span=EVER, start=0, reads=10_000)
        assert reads(since=this_minute() - 3 * MINUTE + 30) == {"acme": {LARGE: 1}}
        assert reads(since=this_minute() - 10 * MINUTE) == {"acme": {LARGE: 11}}
        assert reads(since=this_minute() - 60 * HOUR + 59) == {"acme": {LARGE: 111}}
        assert reads(since=this_minute() - 60 * DAY) == {"acme": {LARGE: 1111}}
        assert reads(since=0) == {"acme": {LARGE: 1111}}
        assert reads() == {"acme": {LARGE: 11_111}}
        assert reads(since=this_minute() + MINUTE) == {}

    def test_one_tenant_may_be_asked_for(self) -> None:
        counted(model=LARGE, reads=1)
        counted("globex", model=LARGE, reads=2)
        counted("", owner=OTHERS, reads=3)
        assert reads(tenant="globex") == {"globex": {LARGE: 2}}
        assert reads(tenant="(others)") == {"(others)": {"": 3}}
        assert reads(tenant="initech") == {}

    def test_what_is_in_memory_is_chosen_likewise(self, flusher: Flusher) -> None:
        counting.prompted(at(), use())
        counting.prompted(at(tenant="globex"), use())
        minutes = {cell.minute for cell in flusher.counts.known()}
        for read in (stats.unwritten, lambda **given: stats.read("default", **given)):
            assert told(read()) == {"acme": {LARGE: 1}, "globex": {LARGE: 1}}
            assert told(read(tenant="acme", since=min(minutes) + 59)) == {"acme": {LARGE: 1}}
            assert told(read(since=max(minutes) + MINUTE)) == {}
            assert told(read(tenant="initech")) == {}

    def test_they_come_in_the_order_of_the_tenants_and_by_the_name_of_the_model(self, flusher: Flusher) -> None:
        for tenant, calls in {"acme": 1, "globex": 3, "initech": 2}.items():
            for model in (LARGE, SMALL):
                counting.prompted(at(model, tenant), use())
            for number in range(calls):
                flusher.counts.ended(str(number), at(tenant=tenant), CallInfo("miss"), None, "", retried=False)
        found = stats.read("default")
        assert list(found.prompts) == list(found.tenants) == list(found.models) == ["globex", "initech", "acme"]
        assert {tuple(models) for models in found.prompts.values()} == {(SMALL, LARGE)}

    def test_a_tenant_of_whom_nothing_else_was_counted_is_one(self) -> None:
        counted("globex", model=LARGE, reads=1)
        counted(miss=1)
        found = stats.read("default")
        assert list(found.tenants) == ["acme", "globex"]
        assert found.tenants["globex"] == Figures({**NOTHING.numbers, "reads": 1})
        assert list(found.prompts) == ["globex"]

    def test_tenants_of_one_name_are_told_apart_by_one_name_in_both(self) -> None:
        for digest in "ab":
            counted("cut short", owner=digest * 32, model=LARGE, reads=1)
        counted("cut short", owner="b" * 32, miss=1)
        found = stats.read("default")
        assert told(found) == {"cut short [bbbbbbbb]": {LARGE: 1}, "cut short [aaaaaaaa]": {LARGE: 1}}
        assert set(found.tenants) == set(found.prompts)

    def test_a_tenant_who_is_called_as_the_others_are_is_told_apart(self) -> None:
        counted("(others)", miss=1)
        counted("", owner=OTHERS, miss=2)
        named = tenant_digest("(others)")[:8]
        assert {name: found["miss"] for name, found in stats.read("default").tenants.items()} == {
            "(others) [others]": 2,
            f"(others) [{named}]": 1,
        }

    def test_every_figure_is_read(self) -> None:
        counted(model=LARGE, **{name: number for number, name in enumerate(SUMMED, 1)})
        counted(model=LARGE, process="other", **dict.fromkeys(SUMMED, 1000))
        (found,) = stats.read("default").models["acme"].values()
        assert {name: found[name] for name in SUMMED} == {name: 1000 + number for number, name in enumerate(SUMMED, 1)}


def test_an_idle_process_reads_what_others_have_rolled_up(flusher: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    counting.prompted(at(), use())
    flusher.counts.take()
    flusher.counts.written()
    assert len(flusher.counts.known()) == 1
    later = time.time() + MINUTE
    monkeypatch.setattr("aicache.ledger.counts.time.time", lambda: later)
    assert flusher.counts.known() == []


class TestFigures:
    def of(self, **numbers: int) -> Figures:
        return NOTHING + Figures({**NOTHING.numbers, **numbers})

    def test_money_and_time_are_exact(self) -> None:
        found = self.of(redundant_nano_usd=3, gate_nano_usd=10_000_000_001)
        assert found.usd("redundant") == Decimal("0.000000003")
        assert found.usd("gate") == Decimal("10.000000001")
        assert found.prompt_net_usd == Decimal("9.999999998")

    def test_the_net_may_be_a_loss(self) -> None:
        assert self.of(redundant_nano_usd=5, gate_nano_usd=-2).prompt_net_usd == Decimal("-0.000000007")
        assert self.of(saved_nano_usd=5, premium_nano_usd=7).net_usd == Decimal("-0.000000002")

    def test_misses_are_named_by_the_providers_words(self) -> None:
        assert self.of().missed == {}
        assert self.of(missed_tools_changed=2, missed_other=1).missed == {"tools_changed": 2, "other": 1}
        assert self.of(**dict.fromkeys(MISSED.values(), 1)).missed == dict.fromkeys(MISSED, 1)

    def test_what_was_done_at_the_providers_prompt_cache_is_anything_that_has_to_do_with_it(self) -> None:
        assert not self.of(hit=1, miss=2, upstream_calls=2, spent_nano_usd=5).has_prompts
        for name in ("reads", "gate_waits", "missed_other", "unpriced_prompts", "redundant_nano_usd", "gate_nano_usd"):
            assert self.of(**{name: 1}).has_prompts
