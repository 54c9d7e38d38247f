"""`manage.py tour`, whole, as `make demo` runs it."""

from __future__ import annotations

import re
import signal
import time

import pytest

from aicache.testing import ClaudeServer
from tests.example_project.conftest import Manage, processes_of

PATIENT = ("--settings", "tests.example_project.patient")


PATIENCE = 300  # seconds; the tour takes some 30 where nothing else runs

pytestmark = pytest.mark.timeout(PATIENCE + 20)


@pytest.mark.slow
def test_every_promise_is_shown_and_kept(manage: Manage) -> None:
    process = manage("tour", *PATIENT, COLUMNS="120")
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, ""), output + errors
    table = output[output.index("What was asked") :]
    rows = [re.split(r"\s{2,}", line) for line in table.splitlines() if line.startswith(("✓", "✗"))]
    assert [row[0][0] for row in rows] == ["✓"] * 17
    assert [row[1] for row in rows[:2]] == ["1 miss", "1 hit"]
    assert re.fullmatch(r"1 miss, .*99 .*|1 miss, \d+ coalesced, \d+ hit", rows[2][1])
    assert rows[6][1] == "1 miss, 2 coalesced"
    assert rows[7][1] == "8 miss"
    assert rows[8][1] == "1 error, 1 miss, 1 coalesced, 1 hit"
    assert [row[1] for row in rows[9:13]] == ["3 miss, 1 hit", "2 miss, 1 hit", "1 miss, 1 hit", "2 miss, 1 hit"]
    assert rows[13][1] == "3 miss, 2 hit"
    calls = [row[3] for row in rows[:16]]
    assert calls == ["1", "0", "1", "1", "1", "2", "1", "8", "1", "3", "2", "1", "2", "3", "2", rows[15][3]]
    assert re.search(r"\(4\s+paid\s+for\s+it,\s+then\s+1;\s+3\s+waited\)", table)
    assert "(differs: body.messages[0])" in table
    assert "(1 hung on helpcentre.article:1)" in table
    assert "In all, 1" in table
    printed = table[table.index("manage.py cache_stats:") :]
    assert "2 tenants" in printed
    assert all(tenant in printed for tenant in ("acme", "globex"))
    assert re.search(r"acme +claude-sonnet-5 +3 +5 +3 +\$0\.\d+ +3 ", printed)
    assert "All 17 promises were kept." in output
    assert "\x1b" not in output  # no colours where there is no terminal
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_a_broken_promise_makes_it_fail(manage: Manage) -> None:
    steps = ["1", "2", "9", "10", "12", "14", "17"]
    process = manage("tour", "--settings", "tests.example_project.switched_off", "--steps", *steps)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output + errors
    assert "Not so: expected 1 hit, saw 1 bypass." in output
    assert "Not so: no purge was the reason." in output
    assert "Not so: the key was not the reason." in output
    assert "Not so: the database was given no copies." in output
    assert "6 of 7 promises were not kept." in errors  # what is not cached is counted all the same
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_in_front_of_the_real_api_stands_a_door_that_counts_and_holds_the_key(
    manage: Manage, claude: ClaudeServer
) -> None:
    claude.latency = 0.3
    environment = {"ANTHROPIC_API_KEY": "secret", "ANTHROPIC_BASE_URL": claude.url}
    process = manage("tour", *PATIENT, "--real", "--steps", "1", "2", "3", **environment)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, ""), output + errors
    [calls] = re.findall(r"In all, .* (\d+)  +[\d,]+  +\$", output)
    assert int(calls) == claude.count
    assert {call.headers["x-api-key"] for call in claude.calls} == {"secret"}


def test_it_can_be_stopped_at_any_time_and_leaves_nothing_behind(manage: Manage) -> None:
    process = manage("tour")
    assert process.stdout
    process.stdout.readline()  # everything is up
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors.strip()) == (130, "CommandError: Stopped.")
    assert processes_of(process.pid) == []
