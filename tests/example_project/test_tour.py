"""`manage.py tour`, whole, as `make demo` runs it."""

from __future__ import annotations

import re
import signal
import time

import pytest

from aicache.testing import ClaudeServer
from tests.example_project.conftest import Manage, processes_of


@pytest.mark.slow
def test_every_promise_is_shown_and_kept(manage: Manage) -> None:
    process = manage("tour")
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, ""), output + errors
    table = output[output.index("What was asked") :]
    rows = [re.split(r"\s{2,}", line) for line in table.splitlines() if line.startswith(("✓", "✗"))]
    assert [row[0][0] for row in rows] == ["✓"] * 12
    assert [row[1] for row in rows[:2]] == ["1 miss", "1 hit"]
    assert re.fullmatch(r"1 miss, .*99 .*|1 miss, \d+ coalesced, \d+ hit", rows[2][1])
    assert [row[1] for row in rows[6:10]] == ["3 miss, 1 hit", "2 miss, 1 hit", "1 miss, 1 hit", "2 miss, 1 hit"]
    assert [row[3] for row in rows] == ["1", "0", "1", "1", "1", "2", "3", "2", "1", "2", "2", rows[11][3]]
    assert "(1 hung on helpcentre.article:1)" in table
    assert "In all, 1" in table
    assert "All 12 promises were kept." in output
    assert "\x1b" not in output  # no colours where there is no terminal
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_a_broken_promise_makes_it_fail(manage: Manage) -> None:
    process = manage("tour", "--settings", "tests.example_project.switched_off", "--steps", "1", "2", "7", "9")
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 1, output + errors
    assert "Not so: expected 1 hit, saw 1 bypass." in output
    assert "Not so: no purge was the reason." in output
    assert "4 of 4 promises were not kept." in errors
    assert processes_of(process.pid) == []


@pytest.mark.slow
def test_in_front_of_the_real_api_stands_a_door_that_counts_and_holds_the_key(
    manage: Manage, claude: ClaudeServer
) -> None:
    claude.latency = 0.3
    environment = {"ANTHROPIC_API_KEY": "secret", "ANTHROPIC_BASE_URL": claude.url}
    process = manage("tour", "--real", "--steps", "1", "2", "3", **environment)
    output, errors = process.communicate(timeout=100)
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
