"""The docs say what the code does: their examples run, and their tables are complete."""

from __future__ import annotations

import logging
import re
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import pytest
from django.core.management import call_command

import aicache
from aicache import journal, signals
from aicache.conf import KNOWN, load
from aicache.core.callinfo import CallInfo
from aicache.core.policy import SHIPPED, Policy
from aicache.core.records import Status
from aicache.span import mark
from aicache.testing import ClaudeServer
from aicache.testing.isolation import memory

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python(?P<fragment> fragment)?\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def in_tables(page: str) -> set[str]:
    """All words in code style that stand in the first column of a table."""
    rows = re.findall(r"^\| ([^|]*`[^|]*) \|", page, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


@pytest.fixture(autouse=True)
def _examples_leave_no_receivers() -> Iterator[None]:
    """Theirs would hear the calls of all tests to come."""
    before = {event: list(event.receivers) for event in signals._events}
    yield
    for event, receivers in before.items():
        with event.lock:
            event.receivers = receivers
            event.sender_receivers_cache.clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_examples_run(
    page: Path, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Block by block in one module, as a reader would type them; one marked ``python fragment`` is only compiled."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "for tests")
    module = types.ModuleType("docs_example")
    for block in BLOCK.finditer(page.read_text()):
        code = compile(
            block["code"], f"{page.name}, line {page.read_text()[: block.start()].count(chr(10)) + 2}", "exec"
        )
        if not block["fragment"]:
            with memory():
                exec(code, module.__dict__)
    if hasattr(module, "AICACHE"):
        load(module.AICACHE)


def test_the_example_of_the_readme_ends_with_a_hit(
    claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "for tests")
    first = next(BLOCK.finditer((ROOT / "README.md").read_text()))["code"]
    with memory():
        exec(compile(first, "README.md", "exec"), {})
    assert re.match(r"hit 0\.\d+ Answer \d+ to: Refunds\?\n", capsys.readouterr().out)
    assert claude.count == 1
    assert len(first.splitlines()) <= 12


def test_explain_key_says_what_the_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = text("key.md")
    left, right = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("A.json").write_text(left)
    Path("B.json").write_text(right)
    call_command("explain_key", "A.json", "B.json", "--no-color")
    first, second, said = capsys.readouterr().out.split("\n", 2)
    assert re.fullmatch(r"[0-9a-f]{64}  A.json", first)
    assert re.fullmatch(r"[0-9a-f]{64}  B.json", second)
    assert said.strip() == shown.strip()


def test_each_test_that_the_docs_show_passes(claude: ClaudeServer) -> None:
    module: dict[str, Any] = {}
    for _, code in BLOCK.findall(text("testing.md")):
        exec(compile(code, "testing.md", "exec"), module)
    with memory() as store:
        module["test_the_second_visitor_costs_nothing"](claude, store)
    module["test_the_visitor_is_served_while_redis_is_down"](claude)
    with memory():
        module["RefundTest"].test_a_repeated_question_is_paid_once(None)


def test_each_setting_is_described() -> None:
    page = text("settings.md")
    assert set(KNOWN) <= in_tables(page)
    assert {word for word in in_tables(page) if word.isupper()} <= set(KNOWN)


def test_each_field_of_a_policy_and_each_shipped_policy_is_described() -> None:
    described = in_tables(text("policies.md"))
    own = {field.name for field in fields(Policy)} - {"name"}
    assert described == own | set(SHIPPED)


def test_the_defaults_of_a_policy_are_the_ones_described() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text("policies.md"), re.MULTILINE))
    policy = Policy("default")
    assert rows == {name: str(getattr(policy, name)) for name in rows}
    assert set(rows) == {field.name for field in fields(Policy)} - {"name"}


def test_the_defaults_of_the_settings_are_the_ones_described() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| `([^`]+)` \|", text("settings.md"), re.MULTILINE)
    shown = {key: eval(value) for key, value in rows}
    assert set(shown) == set(KNOWN)
    settings = load({})
    for key, value in shown.items():
        if key != "POLICIES":
            assert getattr(settings, key.lower()) == value, key
    assert load(shown) == settings


def test_each_status_and_each_field_of_a_call_is_described() -> None:
    page = text("statuses.md")
    statuses = set(get_args(Status))
    described = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert statuses <= described
    assert {field.name for field in fields(CallInfo)} <= described
    assert statuses - {"semantic"} <= in_tables((ROOT / "README.md").read_text())


REASONS = (
    r'passes_by\("\w+", f?"(\w+)[":]',
    r'alone\("\w+", "(\w+)"',
    r'return "bypass", "(\w+)"',
    r'reason=f?"(\w+)[":]',
    r'Unavailable\("(\w+)"\)',
    r'return f?"(\w+)[":]',
    r'"(\w+)" if kept is None else',
    r'is None else "(\w+)"',
    r'return "(\w+)" if self',
    r'dies_at <= now else "(\w+)"',
    r'return "(\w+)" if lineage is None',
    r'"(\w+)" if ask.refresh else seen.reason',
    r'fly\(ask, stamps, "(\w+)"',
    r'Served\(\w+, "(\w+)"',
    r'Served\("\w+", "(\w+)"',
    r'Broken\(False, "(\w+)"',
    r'reason = "\w+" if .* else "(\w+)"',
)
WHERE_REASONS_ARE_MADE = (
    "core/flow.py",
    "core/passing.py",
    "core/policy.py",
    "core/lineage.py",
    "core/records.py",
    "claude/request.py",
    "cache.py",
    "frame.py",
    "errors.py",
    "core/once.py",
    "durable/copies.py",
    "durable/work.py",
    "memo.py",
    "store/__init__.py",
    "store/plans.py",
    "store/connections.py",
    "store/breaker.py",
)


def reasons_in_the_code() -> set[str]:
    source = "\n".join((ROOT / "aicache" / name).read_text() for name in WHERE_REASONS_ARE_MADE)
    return {word for pattern in REASONS for word in re.findall(pattern, source)}


def test_each_reason_is_described() -> None:
    described = {word.split(":")[0] for word in in_tables(text("statuses.md"))}
    found = reasons_in_the_code()
    # It does look.
    assert {"new", "expired", "asked", "unreachable", "too_large", "superseded", "prewarm", "uncommitted"} <= found
    assert found - described == set()


def test_no_reason_is_described_that_the_code_cannot_give() -> None:
    page = text("statuses.md").split("## Reasons of a `miss`")[1]
    described = {word.split(":")[0] for word in in_tables(page)}
    source = "\n".join((ROOT / "aicache" / name).read_text() for name in WHERE_REASONS_ARE_MADE)
    assert {word for word in described if f'"{word}' not in source} == set()


def first_column(page: str, title: str) -> set[str]:
    """The words in code style that the table under a title describes."""
    return in_tables(re.split(r"^#+ ", page.split(f" {title}\n")[1], flags=re.MULTILINE)[0])


def test_each_signal_is_described_and_its_arguments_are_those_that_are_sent(claude: ClaudeServer) -> None:
    page = text("observability.md")
    described = first_column(page, "Signals")
    assert described == {name for name, found in vars(signals).items() if isinstance(found, signals.Event)}
    sent: dict[str, set[str]] = {}

    def hear(signal: Any, sender: None, **told: Any) -> None:
        sent[signal.name] = set(told)

    heard = (signals.call_ended, signals.cache_missed, signals.answer_stored)
    for event in heard:
        event.connect(hear)
    try:
        with memory(), aicache.scope(tenant="acme"):
            aicache.remember({"embed": "refund"}, lambda: [0.5])
    finally:
        for event in heard:
            event.disconnect(hear)
    rows = {
        name: set(re.findall(r"`(\w+)`", row)) for name, row in re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.M)
    }
    assert sent["call_ended"] == sent["cache_missed"] == rows["call_ended"]
    assert sent["answer_stored"] == rows["call_ended"] | rows["answer_stored"]


def test_each_attribute_of_a_span_is_described() -> None:
    span = mock.Mock()
    mark(span, CallInfo("hit"), None, "default")
    marked = {*span.set_attributes.call_args.args[0], span.set_attribute.call_args.args[0]}
    assert first_column(text("observability.md"), "Spans") == marked


def test_each_field_of_a_log_line_is_described(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "aicache.calls"):
        journal.write(info=CallInfo("hit"), tenant=None, model="", policy="default")
    own = set(vars(caplog.records[0])) - set(vars(logging.makeLogRecord({}))) - {"message", "asctime"}
    assert first_column(text("observability.md"), "Log lines") == own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_it_names_are_there(page: Path) -> None:
    for name in re.findall(r"`(aicache/[\w/]+\.py)`", page.read_text()):
        assert (ROOT / name).is_file(), name


def commands() -> set[str]:
    return set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))


def test_each_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "serve"} <= commands()
    for name in {*commands(), *re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text())}:
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


def test_the_changelog_is_about_this_version() -> None:
    assert aicache.__version__ in (ROOT / "CHANGELOG.md").read_text()
