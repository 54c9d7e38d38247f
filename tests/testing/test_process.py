"""The server as a process of its own, steered from another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from aicache.testing import ClaudeServer
from aicache.testing.control import ClaudeControl
from tests.testing.asking import MODEL, asking, eventually, text_of

ROOT = Path(__file__).parents[2]


def python(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with python("-m", "aicache.testing", "--port", "0", "--latency", "0.2") as running:
        yield running
        running.kill()


@pytest.fixture
def control(claude: ClaudeServer) -> ClaudeControl:
    return ClaudeControl(claude.url)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_process_prints_its_address_serves_and_ends_with_zero(
    process: subprocess.Popen[str], ending: signal.Signals
) -> None:
    assert process.stdout
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with anthropic.Anthropic(base_url=url, api_key="test") as client:
        start = time.monotonic()
        assert text_of(client.messages.create(**asking("x"))) == "Answer 1 to: x"
        assert time.monotonic() - start >= 0.2
        assert ClaudeControl(url).count == 1
        process.send_signal(ending)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def test_the_process_can_end_with_its_parent() -> None:
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'aicache.testing', '--with-parent'], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with python("-c", parent) as running:
        assert running.stdout
        control = ClaudeControl(running.stdout.readline().strip(), timeout=1)
        assert control.count == 0
        running.kill()

    def gone() -> bool:
        try:
            control.state()
        except OSError:
            return True
        return False

    assert eventually(gone)


def test_the_state_is_told_to_other_processes(
    claude: ClaudeServer, client: anthropic.Anthropic, control: ClaudeControl
) -> None:
    client.messages.create(**asking("x"))
    state = control.state()
    at = state["calls"][0].pop("at")
    assert abs(at - time.time()) < 10
    assert state == {
        "count": 1,
        "in_flight": 0,
        "peak": 1,
        "latency": 0.0,
        "lag": 0.0,
        "minimum": 1024,
        "calls": [{"number": 1, "path": "/v1/messages", "model": MODEL}],
    }
    claude.promptcache.lag = lambda: 1.0
    assert control.state()["lag"] is None


def test_other_processes_can_set_what_the_owner_can(
    claude: ClaudeServer, client: anthropic.Anthropic, control: ClaudeControl
) -> None:
    client.messages.create(**asking("x"))
    state = control.set(reset=True, latency=0.1, lag=2, minimum=7)
    assert (state["count"], state["latency"], state["lag"], state["minimum"]) == (0, 0.1, 2, 7)
    assert (claude.latency, claude.promptcache.lag, claude.promptcache.minimum) == (0.1, 2, 7)
    assert control.reset()["latency"] == 0.0


def test_other_processes_can_write_the_script(client: anthropic.Anthropic, control: ClaudeControl) -> None:
    control.set(
        script=[
            {"text": "one", "stop_reason": "refusal", "output_tokens": 7},
            {"error": 529, "retry_after": 0.5},
            {"tool_use": "weather", "input": {"city": "Oslo"}},
            {"drop": 0},
            {"blocks": [{"type": "text", "text": "last"}]},
        ]
    )
    first = client.messages.create(**asking("x"))
    assert (text_of(first), first.stop_reason, first.usage.output_tokens) == ("one", "refusal", 7)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**asking("x"))
    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (529, "0.5")
    tool_use = client.messages.create(**asking("x")).content[0]
    assert tool_use.type == "tool_use"
    assert (tool_use.name, tool_use.input) == ("weather", {"city": "Oslo"})
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**asking("x"))
    assert text_of(client.messages.create(**asking("x"))) == "last"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"latencyy": 1}, "latencyy"),
        ({"latency": "slow"}, "latency"),
        ({"script": [{"txt": "x"}]}, "txt"),
        ({"script": [{"text": "x", "error": 500}]}, "error"),
        ({"script": 7}, "int"),
        ({"script": [7]}, "int"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(control: ClaudeControl, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        control.set(**{"minimum": 3, **wrong})
    assert control.state()["minimum"] == 1024


def test_steering_is_no_call(claude: ClaudeServer, control: ClaudeControl) -> None:
    control.set(latency=0)
    assert (claude.count, claude.peak, control.count) == (0, 0, 0)


def test_the_kit_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, aicache.testing, aicache.testing.control\n"
        "print([name for name in ('anthropic', 'django', 'httpx2', 'redis', 'pydantic') if name in sys.modules])"
    )
    with python("-c", code) as running:
        assert running.communicate(timeout=10) == ("[]\n", "")
