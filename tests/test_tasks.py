from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, current_app
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Retry
from celery.signals import setup_logging, task_postrun
from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone

import aicache.celery
import aicache.purge
from aicache import tasks, upkeep
from aicache.conf import get_settings
from aicache.core.tags import Tag
from aicache.database import leave
from aicache.errors import ArgumentError
from aicache.freshness.generations import generations
from aicache.invalidation import invalidate
from aicache.models import Invalidation, InvalidationTag
from aicache.store import Store
from aicache.tenants import tenant_digest
from tests.answers import ask, keep, without_redis

pytestmark = [pytest.mark.usefixtures("aicache_isolated"), pytest.mark.django_db(transaction=True, databases="__all__")]

TASKS = ("purge_tag", "drain_invalidations", "reclaim", "index_tags", "compact_invalidations", "prune", "roll_up")


@pytest.fixture(autouse=True)
def app() -> Iterator[Celery]:
    before = current_app._get_current_object()
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.broker_transport_options = {"polling_interval": 0.02}
    yield app
    app.close()
    before.set_current()


class TestPurgeTag:
    def test_a_tenants_answers_die_and_are_counted(self) -> None:
        keep(2, "prices")
        keep(1, "refunds")
        keep(1, "prices", tenant="globex")

        assert tasks.purge_tag("prices", tenant="acme") == 2

        assert ask("0 of ('prices',)", "prices") == "miss"
        assert ask("0 of ('refunds',)", "refunds") == "hit"
        assert ask("0 of ('prices',)", "prices", tenant="globex") == "hit"

    def test_several_tags_and_everybodys_answers(self) -> None:
        keep(1, "prices")
        keep(2, "refunds", tenant="globex")

        assert tasks.purge_tag(["prices", "refunds"], all_tenants=True) == 3

        assert ask("0 of ('prices',)", "prices") == "miss"
        assert ask("0 of ('refunds',)", "refunds", tenant="globex") == "miss"

    def test_a_tenant_may_be_a_number_as_in_a_scope(self) -> None:
        keep(1, "prices", tenant="7")
        assert tasks.purge_tag("prices", tenant=7) == 1

    @pytest.mark.parametrize(
        "given", [{}, {"tenant": "acme", "all_tenants": True}, {"tenant": ""}, {"tenant": ["acme"]}]
    )
    def test_nobody_or_two_say_whose_they_are(self, given: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match="accepted: "):
            tasks.purge_tag("prices", **given)
        assert not Invalidation.objects.exists()

    @pytest.mark.parametrize("tags", ["", ["prices", ""], [1], [None], ["é" * 101]])
    def test_a_name_that_cannot_be_a_tag(self, tags: Any) -> None:
        with pytest.raises(ArgumentError, match="accepted: "):
            tasks.purge_tag(tags, tenant="acme")
        assert not Invalidation.objects.exists()

    @pytest.mark.parametrize("tags", [None, 5, object(), b"x", {"prices": 1}, True])
    def test_what_are_no_names(self, tags: Any) -> None:
        said = re.escape(f"tags is {tags!r}; accepted: a name, or a list of names")
        with pytest.raises(ArgumentError, match=said):
            tasks.purge_tag(tags, tenant="acme")
        assert not Invalidation.objects.exists()

    @pytest.mark.parametrize("given", ["false", "true", 0, 1, None])
    def test_everybodys_is_said_with_true_or_false(self, given: Any) -> None:
        said = re.escape(f"all_tenants is {given!r}; accepted: True or False")
        with pytest.raises(ArgumentError, match=said):
            tasks.purge_tag("prices", all_tenants=given)
        assert not Invalidation.objects.exists()

    def test_it_kills_before_it_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keep(2, "prices")
        served: list[str] = []
        counts = Store.counts

        def slow(*given: Any) -> list[int]:
            served.append(ask("0 of ('prices',)", "prices"))
            return counts(*given)

        monkeypatch.setattr(Store, "counts", slow)
        assert tasks.purge_tag("prices", tenant="acme") == 1  # the other was made anew meanwhile
        assert served == ["miss"]

    def test_without_redis_it_is_written_and_not_counted(self) -> None:
        keep(1, "prices")
        with without_redis():
            assert tasks.purge_tag("prices", tenant="acme") is None

        assert tasks.drain_invalidations() == 1
        assert ask("0 of ('prices',)", "prices") == "miss"

    def test_without_the_database_it_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*args: Any, **more: Any) -> None:
            raise OperationalError("away")

        monkeypatch.setattr(aicache.purge, "carry_out", fails)
        task = tasks.purge_tag
        with pytest.raises(Retry):
            task.apply(("prices", "acme"), throw=True, retries=0)._get_task_meta()
        assert (task.max_retries, task.acks_late, task.reject_on_worker_lost) == (10, True, True)


class TestTheRest:
    def test_what_is_pending_is_drained(self) -> None:
        keep(1, "prices")
        with without_redis():
            invalidate("prices", tenant="acme")
            assert tasks.drain_invalidations() == 0

        assert tasks.drain_invalidations() == 1

        assert ask("0 of ('prices',)", "prices") == "miss"
        assert tasks.drain_invalidations() == 0

    def test_memory_is_freed_until_nothing_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep, "BATCH", 2)
        keep(5, "prices")
        invalidate("prices", tenant="acme")

        assert tasks.reclaim() == 5
        assert tasks.reclaim() == 0

    def test_a_batch_that_frees_nothing_is_not_the_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep, "BATCH", 1)
        tags = [f"tag:{at}" for at in range(10)]
        for name in tags:
            keep(1, name)
        keep(2, "refunds")
        invalidate(*tags, "refunds", tenant="acme")
        for name in tags:
            keep(1, name)  # made anew, in the place of the dead

        first, done = upkeep.reclaim(0.0)
        assert not done
        assert first + tasks.reclaim() == 2
        assert upkeep.reclaim() == (0, True)
        assert ask("0 of ('tag:3',)", "tag:3") == "hit"

    def test_one_run_is_bounded_and_the_next_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep, "BATCH", 1)
        monkeypatch.setattr(tasks, "RECLAIM_FOR", 0.0)
        # Redis gives small sets in one piece, so that a batch may be larger than it was asked to be.
        keep(2, "prices")
        keep(2, "refunds")
        invalidate("prices", "refunds", tenant="acme")

        first = tasks.reclaim()

        assert 1 <= first < 4
        assert first + tasks.reclaim() + tasks.reclaim() + tasks.reclaim() == 4

    def test_the_list_of_tags_follows_those_in_use(self) -> None:
        keep(1, "prices")
        assert tasks.index_tags() == 2
        first = InvalidationTag.objects.get(everybody=False)
        keep(1, "refunds")

        assert tasks.index_tags() == 4

        again = InvalidationTag.objects.get(tag="prices", everybody=False)
        assert again.pk == first.pk
        assert again.seen_at > first.seen_at
        assert InvalidationTag.objects.count() == 4

    def test_whose_a_tag_is_may_be_learnt_when_it_dies(self) -> None:
        keep(1, "prices")
        tasks.index_tags()
        InvalidationTag.objects.update(tenant="")
        invalidate("prices", tenant="acme")

        tasks.index_tags()

        assert dict(InvalidationTag.objects.values_list("everybody", "tenant")) == {True: "", False: "acme"}

    def test_tags_long_out_of_use_leave_the_list_unless_they_count_something(self) -> None:
        acme, long_ago = tenant_digest("acme"), timezone.now() - timedelta(days=31)
        for name, more in {"gone": {}, "counts": {"compacted": 1}, "died": {}}.items():
            tag = Tag(name, acme)
            InvalidationTag.objects.create(digest=tag.digest, tag=name, tenant="acme", seen_at=long_ago, **more)
        invalidate("died", tenant="acme")

        tasks.index_tags()

        assert set(InvalidationTag.objects.values_list("tag", flat=True)) == {"counts", "died"}

    def test_old_invalidations_are_deleted_and_still_counted(self) -> None:
        invalidate("prices", tenant="acme")
        invalidate("prices", tenant="acme")
        long_ago = timezone.now() - timedelta(days=tasks.COMPACT_AFTER + 1)
        oldest = Invalidation.objects.order_by("pk")[:1].get()
        Invalidation.objects.filter(pk=oldest.pk).update(made_at=long_ago, applied_at=long_ago)

        assert tasks.compact_invalidations() == 1

        assert Invalidation.objects.count() == 1
        assert generations([Tag("prices", tenant_digest("acme"))]) == (2,)

    @pytest.mark.parametrize("days", ["x", "30", None, float("nan"), float("inf"), -1, True, [30], 1e9])
    def test_what_is_no_number_of_days(self, days: Any) -> None:
        invalidate("prices", tenant="acme")
        said = re.escape(f"days is {days!r}; accepted: a number, from 0 to 100,000")
        with pytest.raises(ArgumentError, match=said):
            tasks.compact_invalidations(days)
        assert Invalidation.objects.exists()

    def test_the_days_may_be_few_or_none(self) -> None:
        invalidate("prices", tenant="acme")
        assert tasks.compact_invalidations(0.5) == 0
        assert tasks.compact_invalidations(days=0) == 1

    def test_without_redis_none_of_them_fails(self) -> None:
        with without_redis():
            for name in ("drain_invalidations", "reclaim", "index_tags", "compact_invalidations", "prune", "roll_up"):
                assert getattr(tasks, name)() == 0


class TestCelery:
    @pytest.mark.parametrize("name", TASKS)
    def test_the_tasks_have_the_names_that_are_promised(self, app: Celery, name: str) -> None:
        assert f"aicache.tasks.{name}" in app.tasks
        assert app.tasks[f"aicache.tasks.{name}"].acks_late

    def test_the_schedule_names_tasks_that_there_are_and_can_be_sent(self, app: Celery) -> None:
        schedule = aicache.celery.BEAT_SCHEDULE
        assert {entry["task"] for entry in schedule.values()} == {f"aicache.tasks.{name}" for name in TASKS[1:]}
        assert set(schedule) == {f"aicache.{name}" for name in TASKS[1:]}
        assert json.loads(json.dumps(schedule)) == schedule
        assert schedule["aicache.drain_invalidations"]["schedule"] == aicache.celery.DRAIN_EVERY == 10.0

    def test_beat_understands_the_schedule(self, app: Celery) -> None:
        app.conf.beat_schedule = {**aicache.celery.BEAT_SCHEDULE}
        beat = app.Beat(loglevel="CRITICAL", schedule=None)
        assert beat is not None
        from celery.beat import Scheduler

        scheduler = Scheduler(app, lazy=False)
        assert {f"aicache.{name}" for name in TASKS[1:]} <= set(scheduler.schedule)

    @pytest.fixture
    def _of_its_thread(self) -> Iterator[None]:
        """A worker sets up the logging of its process, unless somebody else says that he does."""

        def leave_it(**_: Any) -> None:
            pass

        def go(**_: Any) -> None:
            leave(whole=True)  # its thread ends without closing what it opened

        setup_logging.connect(leave_it)
        task_postrun.connect(go)
        yield
        setup_logging.disconnect(leave_it)
        task_postrun.disconnect(go)

    @pytest.mark.usefixtures("_of_its_thread")
    def test_a_worker_does_what_was_sent_by_name(self, app: Celery) -> None:
        keep(2, "prices")
        with override_settings(AICACHE={"NAMESPACE": get_settings().namespace}):
            with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30.0):
                sent = app.send_task("aicache.tasks.purge_tag", [["prices"]], {"tenant": "acme"})
                assert sent.get(timeout=20) == 2
        assert ask("0 of ('prices',)", "prices") == "miss"


def test_a_site_without_celery_has_all_but_the_tasks() -> None:
    program = """
import sys
sys.modules["celery"] = None
import django
from django.core.management import call_command
django.setup()
call_command("check")
call_command("migrate", verbosity=0)
call_command("drain_invalidations")
call_command("purge_tag", "prices", all_tenants=True)
import aicache.admin, aicache.celery
try:
    import aicache.tasks
except ImportError:
    print("no tasks")
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**__import__("os").environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("no tasks\n")
