"""Minutes become hours: no figure changes by it."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.models.functions import Now
from django.test import override_settings

from aicache.ledger import compaction, stats
from aicache.ledger.compaction import KEPT, compact
from aicache.ledger.counts import MINUTE
from aicache.ledger.rows import PROMPTS
from aicache.ledger.stats import HOUR
from aicache.models import CallCount, CountingProcess, PromptCount
from aicache.tenants import tenant_digest
from tests.ledger.conftest import ALIAS

OLD = int(time.time() - KEPT.total_seconds()) // HOUR * HOUR - 2 * HOUR
YOUNG = OLD + 3 * HOUR


def fill(using: str = "default") -> None:
    """Of three tenants and two processes: two hours that are old, minute by minute, and one that is not. Of each, the
    calls and, of two models, what they did at the provider's prompt cache."""
    places = [
        (at, {"process": process, "minute": minute, "owner": tenant_digest(tenant), "tenant": tenant})
        for at, minute in enumerate((*range(OLD, OLD + 2 * HOUR, 10 * MINUTE), YOUNG))
        for tenant in ("acme", "globex", "initech")
        for process in ("one", "two")
    ]
    CallCount.objects.using(using).bulk_create(CallCount(**place, hit=3, error=-1, miss=at) for at, place in places)
    PromptCount.objects.using(using).bulk_create(
        PromptCount(**place, model=model, **{name: number + at for number, name in enumerate(PROMPTS.summed, first)})
        for at, place in places
        for model, first in (("large", 100), ("small", 0))
    )


def told(using: str = "default") -> dict[str, Any]:
    found = stats.read(using)
    return {"tenants": dict(found.tenants), "prompts": dict(found.prompts)}


@pytest.mark.django_db
@pytest.mark.usefixtures("flusher")
class TestCompact:
    @pytest.mark.parametrize("batch", [1, 7, 500])
    def test_changes_no_figure(self, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction, "BATCH", batch)
        fill()
        before = told()

        assert compact() == 2 * 6 * 3 * 2 * (1 + 2)
        assert told() == before
        hours = CallCount.objects.filter(process="").order_by("minute", "tenant").values_list("minute", "tenant", "hit")
        assert list(hours) == [(hour, name, 36) for hour in (OLD, OLD + HOUR) for name in ("acme", "globex", "initech")]
        assert CallCount.objects.exclude(process="").count() == 3 * 2
        found = PromptCount.objects.filter(process="").order_by("minute", "tenant", "model")
        assert list(found.values_list("minute", "tenant", "model", "reads")) == [
            (hour, name, model, 2 * sum(first + at for at in minutes))
            for hour, minutes in ((OLD, range(6)), (OLD + HOUR, range(6, 12)))
            for name in ("acme", "globex", "initech")
            for model, first in (("large", 100), ("small", 0))
        ]
        assert PromptCount.objects.exclude(process="").count() == 3 * 2 * 2
        assert compact() == 0

    def test_adds_what_comes_later_to_its_hour(self) -> None:
        fill()
        compact()
        late = CallCount(process="three", minute=OLD + 61, owner=tenant_digest("acme"), tenant="acme", hit=5)
        late.save()
        assert compact() == 1
        assert CallCount.objects.get(process="", minute=OLD, tenant="acme").hit == 41

    def test_adds_what_comes_later_to_the_hour_of_its_model(self) -> None:
        fill()
        compact()
        place = {"owner": tenant_digest("acme"), "tenant": "acme"}
        PromptCount.objects.create(process="three", minute=OLD + 61, model="small", reads=5, missed_other=1, **place)
        PromptCount.objects.create(process="three", minute=OLD + 61, model="new", gate_nano_usd=-7, **place)
        before = told()

        assert compact() == 2
        assert told() == before
        hours = PromptCount.objects.filter(process="", minute=OLD, tenant="acme")
        reads = dict(hours.values_list("model", "reads"))
        assert reads == {"large": 2 * sum(range(100, 106)), "small": 2 * sum(range(6)) + 5, "new": 0}
        assert hours.get(model="new").gate_nano_usd == -7

    @pytest.mark.parametrize("only", [None, CallCount, PromptCount])
    def test_leaves_to_another_what_that_one_is_at(self, only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        fill()
        for counted in {CallCount, PromptCount} - {only} if only else ():
            counted.objects.all().delete()
        before, summed = told(), compaction._summed

        def meanwhile(*given: Any) -> Any:
            monkeypatch.setattr(compaction, "_summed", summed)
            compact()
            return summed(*given)

        monkeypatch.setattr(compaction, "_summed", meanwhile)
        assert compact() == 0
        assert told() == before

    def test_forgets_processes_of_long_ago_but_for_what_they_lost(self) -> None:
        fields = {"host": "far", "pid": 1, "flushed": 5}
        long_ago = Now() - KEPT - timedelta(hours=1)
        CountingProcess.objects.create(id="old", announced=5, seen_at=long_ago, **fields)
        CountingProcess.objects.create(id="lost", announced=9, seen_at=long_ago, **fields)
        CountingProcess.objects.create(id="young", announced=5, seen_at=Now(), **fields)
        assert compact() == 1
        assert set(CountingProcess.objects.values_list("id", flat=True)) == {"lost", "young"}
        assert stats.read("default").lost == 4

    def test_does_nothing_where_there_is_no_database(self) -> None:
        with override_settings(DATABASE_ROUTERS=[type("Nowhere", (), {"allow_migrate": lambda *_, **__: False})()]):
            assert compact() == 0


@pytest.mark.usefixtures("place", "flusher")
def test_several_at_once_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "BATCH", 5)
    fill(ALIAS)
    before = told(ALIAS)
    done: list[int] = []
    together = threading.Barrier(3)

    def work() -> None:
        together.wait(30)
        try:
            done.append(compact())
        except Exception as error:  # noqa: BLE001 - such as a deadlock, after which nothing is changed
            print(error)
        finally:
            connections[ALIAS].close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told(ALIAS) == before
    compact()
    assert told(ALIAS) == before
    for counted in (CallCount, PromptCount):
        assert not counted.objects.using(ALIAS).filter(minute__lt=YOUNG).exclude(process="").exists()
