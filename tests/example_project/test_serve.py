"""`manage.py serve`, as a person starts and ends it."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.example_project.commands import opened
from tests.example_project.conftest import Manage, processes_of
from tests.example_project.visits import Visitor, status_on

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_it_is_told_to_end_and_leaves_nothing_behind(manage: Manage, ending: signal.Signals) -> None:
    process = manage("serve")
    said = opened(process)
    address = re.search(r"(http://127\.0\.0\.1:\d+)/\n", said)
    assert address
    visitor = Visitor(address[1])
    assert "Can I get my money back?" in visitor.get("/acme/")
    assert "prefers-color-scheme" in visitor.get("/static/helpcentre/helpcentre.css")
    pages = [visitor.post("/acme/ask/", question="When are you open?") for _ in range(2)]
    assert [status_on(page) for page in pages] == ["miss", "hit"]
    password = re.search(r"user admin, password (\S+)", said)
    assert password
    assert "Articles" in visitor.post("/admin/login/?next=/admin/", username="admin", password=password[1])
    assert len(processes_of(process.pid)) >= 4  # itself, Valkey, the stand-in, the pages
    process.send_signal(ending)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output.strip()) == (0, "Closed.")
    assert processes_of(process.pid) == []


def test_it_takes_the_port_and_the_redis_that_it_is_given(manage: Manage) -> None:
    from django.conf import settings

    redis_url = settings.CACHES["default"]["LOCATION"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = manage("serve", "--port", str(port), "--redis", redis_url)
    said = opened(process)
    assert f"http://127.0.0.1:{port}/" in said
    assert redis_url in said
    assert "valkey-server" not in " ".join(processes_of(process.pid))
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["serve", "tour"])
def test_nobody_asks_the_real_claude_by_accident(manage: Manage, command: str) -> None:
    process = manage(command, "--real")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "set ANTHROPIC_API_KEY first" in errors


def test_there_is_something_to_be_seen_on_the_dashboard_within_a_minute(manage: Manage) -> None:
    process = manage("serve")
    said = opened(process)
    found = re.search(r"Dashboard +(http://127\.0\.0\.1:\d+)(/\S+)\n(?s:.*)user admin, password (\S+)", said)
    assert found
    visitor = Visitor(found[1])
    visitor.post("/admin/login/?next=/admin/", username="admin", password=found[3])
    until = time.monotonic() + 60
    while not (hits := re.search(r"([1-9]\d*) of (\d+) calls that asked the cache", visitor.get(found[2]))):
        assert time.monotonic() < until, "nobody has asked what others had asked before"
        time.sleep(0.5)
    assert int(hits[1]) <= int(hits[2])


def test_nobody_visits_who_is_not_wanted(manage: Manage) -> None:
    process = manage("serve", "--no-visitors")
    opened(process)
    commands = [Path(f"/proc/{name.split()[0]}/cmdline").read_text() for name in processes_of(process.pid)]
    assert any("upkeep" in command for command in commands)
    assert not any("visit\0" in command for command in commands)


def test_a_redis_that_is_not_there_is_named(manage: Manage) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        _, errors = manage("serve", "--redis", url).communicate(timeout=20)
    assert f"There is no Redis at {url}" in errors


def test_a_port_that_is_taken_ends_it_and_everything_it_started(manage: Manage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = manage("serve", "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "already in use" in errors
    assert processes_of(process.pid) == []
