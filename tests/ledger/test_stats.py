"""What was counted, read again: of every process, for how long, and what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from aicache.ledger import process as module
from aicache.ledger import stats
from aicache.ledger.counts import MINUTE
from aicache.ledger.flusher import Flusher
from aicache.ledger.process import Process
from aicache.ledger.stats import HOUR, UNSEEN, Figures
from aicache.models import CountingProcess
from tests.ledger.buckets import counted, this_minute

pytestmark = [pytest.mark.usefixtures("flusher"), pytest.mark.django_db]


def misses(**given: Any) -> dict[str, int]:
    return {name: figures["miss"] for name, figures in stats.read("default", **given).tenants.items()}


def figures(**numbers: int) -> Figures:
    return stats.NOTHING + Figures({**stats.NOTHING.numbers, **numbers})


def test_all_processes_and_minutes_add_up() -> None:
    counted(miss=1)
    counted(ago=1, miss=1)
    counted(process="other", ago=1, miss=5)
    counted("globex", miss=2)
    assert misses() == {"acme": 7, "globex": 2}
    assert misses(tenant="globex") == {"globex": 2}
    assert misses(tenant="initech") == {}


def test_since_counts_whole_minutes_and_of_long_ago_whole_hours() -> None:
    counted(ago=3, miss=1)
    counted(ago=10, miss=10)
    counted(process="", span=HOUR, start=(this_minute() - 60 * HOUR) // HOUR * HOUR, miss=100)
    assert misses(since=this_minute() - 3 * MINUTE + 30) == {"acme": 1}
    assert misses(since=this_minute() - 10 * MINUTE) == {"acme": 11}
    assert misses(since=this_minute() - 60 * HOUR + 59) == {"acme": 111}
    assert misses() == {"acme": 111}
    assert stats.read("default", since=this_minute() + 30).since == this_minute()


def test_the_hit_rate_is_that_of_those_who_asked_the_cache() -> None:
    asked = figures(hit=4, stale=1, semantic=1, coalesced=2, miss=2, bypass=50, unscoped=7, degraded=3, error=30)
    assert asked.hit_rate == 0.8
    assert asked.calls == 100
    assert figures(bypass=5).hit_rate is None
    assert figures(miss=5).hit_rate == 0


def test_tenants_of_one_name_are_told_apart() -> None:
    for digest in "ab":
        counted("cut short", owner=digest * 32, miss=1)
    assert misses() == {"cut short [aaaaaaaa]": 1, "cut short [bbbbbbbb]": 1}


class TestLost:
    @pytest.fixture
    def child(self) -> Iterator[subprocess.Popen[bytes]]:
        """A process that lives, and is not waited for when it does not."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            yield process
            process.kill()

    def row(self, process: Process, *, ago: float = 0.0, flushed: int = 10, announced: int = 17) -> None:
        CountingProcess.objects.create(
            id=process.id,
            host=process.host,
            pid=process.pid,
            started=process.started,
            seen_at=Now() - timedelta(seconds=ago),
            flushed=flushed,
            announced=announced,
        )

    def of(self, pid: int, **changes: Any) -> Process:
        return Process(
            **{"id": "a" * 32, "host": module.host(), "pid": pid, "started": module._stat(pid)[1], **changes}
        )

    def lost(self, **given: Any) -> int:
        return stats.read("default", **given).lost

    def test_is_nothing_while_it_lives(self, child: subprocess.Popen[bytes]) -> None:
        self.row(self.of(child.pid))
        assert self.lost() == 0

    def test_is_what_a_process_that_is_gone_announced_and_did_not_write(self, child: subprocess.Popen[bytes]) -> None:
        self.row(self.of(child.pid))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
        assert self.lost() == 7
        child.wait()
        assert self.lost() == 7

    def test_is_nothing_of_one_that_has_written_all(self, child: subprocess.Popen[bytes]) -> None:
        self.row(self.of(child.pid), announced=10)
        child.kill()
        child.wait()
        assert self.lost() == 0

    def test_is_not_saved_by_another_that_got_its_number(self, child: subprocess.Popen[bytes]) -> None:
        process = self.of(child.pid)
        if not process.started:
            pytest.skip("this system does not say when a process was started")
        self.row(self.of(child.pid, started="1"))
        assert self.lost() == 7

    def test_is_told_by_its_silence_where_it_cannot_be_seen(self) -> None:
        self.row(self.of(1, host="far away"), ago=UNSEEN - 2)
        assert self.lost() == 0
        CountingProcess.objects.update(seen_at=Now() - timedelta(seconds=UNSEEN + 1))
        assert self.lost() == 7

    def test_is_taken_back_by_one_that_merely_stood_still(self, child: subprocess.Popen[bytes]) -> None:
        self.row(self.of(child.pid), ago=60)
        assert self.lost() == 7
        CountingProcess.objects.update(seen_at=Now())
        assert self.lost() == 0

    def test_is_of_the_time_that_is_asked_for(self) -> None:
        self.row(self.of(1, host="far away"), ago=600)
        assert self.lost(since=time.time() - 300) == 0
        assert self.lost(since=time.time() - 900) == 7

    def test_is_nothing_of_one_that_writes_its_last_and_ends_while_it_is_looked_at(
        self, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.row(self.of(child.pid))

        def ends(process: Process) -> bool:
            CountingProcess.objects.filter(id=process.id).update(flushed=F("announced"))
            return True

        monkeypatch.setattr(Process, "is_gone", property(ends))
        assert self.lost() == 0

    def test_is_nothing_of_this_process_itself(self, flusher: Flusher) -> None:
        self.row(flusher.process, ago=600)
        assert self.lost() == 0


def test_a_process_that_is_not_ours_is_there() -> None:
    assert not Process("a", module.host(), 1, "").is_gone
    assert Process("a", module.host(), 2**22 + 1, "").is_gone


def test_where_the_system_says_little_the_name_of_the_machine_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(module, "PROC", tmp_path)
    module.host.cache_clear()
    try:
        process = Process.this()
        assert process.started == ""
        assert not process.is_gone
    finally:
        module.host.cache_clear()
