"""The floor plan holds: layers, sizes, names, and nothing in the repository that must not be in one."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aicache

ROOT = Path(__file__).parent.parent
LONGEST = 300  # lines
SAYS_NOTHING = {
    "common",
    "handler",
    "handlers",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "service",
    "util",
    "utils",
}


def python_files(*places: str) -> list[Path]:
    found = [ROOT / place for place in places if place.endswith(".py")]
    for place in places:
        found += sorted((ROOT / place).rglob("*.py"))
    return [path for path in found if path.exists() and "migrations" not in path.parts]


PRODUCTION = python_files("aicache", "example_project", "benchmarks", "manage.py")
EVERYTHING = [*PRODUCTION, *python_files("tests")]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """Every file that is in the repository or would be with the next `git add`; skips where there is no repository."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository")
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_the_layers_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def test_the_public_names_are_these() -> None:
    assert aicache.__all__ == [
        "GLOBAL",
        "CallInfo",
        "Calls",
        "IdempotencyConflict",
        "info",
        "invalidate",
        "register",
        "remember",
        "scope",
        "wrap",
    ]
    for name in aicache.__all__:
        assert getattr(aicache, name) is not None
    assert set(aicache.__all__) <= set(dir(aicache))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="semantic"):
        aicache.semantic  # noqa: B018 - the access is the test


@pytest.mark.parametrize("path", EVERYTHING, ids=named)
def test_annotations_are_never_evaluated(path: Path) -> None:
    tree = ast.parse(path.read_text())
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    if not code:
        return
    first = code[0]
    assert isinstance(first, ast.ImportFrom), f"{named(path)} lacks `from __future__ import annotations`"
    assert first.module == "__future__", f"{named(path)} lacks `from __future__ import annotations`"
    assert "annotations" in {alias.name for alias in first.names}


def test_no_file_has_grown_too_long() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in PRODUCTION}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_each_file_is_named_after_a_thing() -> None:
    places = {part for path in EVERYTHING for part in path.relative_to(ROOT).with_suffix("").parts}
    assert places & SAYS_NOTHING == set()


def test_only_conf_reads_the_settings() -> None:
    readers = {named(path) for path in PRODUCTION if "from django.conf import" in path.read_text()}
    inside = {name for name in readers if name.startswith("aicache/") and not name.startswith("aicache/testing/")}
    assert inside <= {"aicache/conf.py"}


# Spelled in pieces, so that this file does not name what it looks for.
REGISTRIES = re.compile(
    "|".join(
        (
            "index" + "-url",
            "find" + "-links",
            "trusted" + "-host",
            r"files\." + "pythonhosted",
            r"(?:test\.)?pypi\." + r"org/simple",
            r"registry\." + "npmjs",
            r"registry\." + "yarnpkg",
        )
    )
)


def test_no_package_registry_is_named() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{named(path)}: {match.group()}" for match in REGISTRIES.finditer(text)]
    assert found == []


def test_each_requirement_is_pinned_with_a_hash() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert {path.name for path in files} >= {"demo.txt", "test.txt", "test-django61.txt"}
    for path in files:
        logical = path.read_text().replace("\\\n", " ").splitlines()
        for line in logical:
            if line.strip() and not line.lstrip().startswith("#"):
                assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), f"{path.name}: {line[:80]}"
                assert "://" not in line, f"{path.name}: {line[:80]}"


def test_the_demo_needs_nothing_that_the_tests_do_not_pin() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert pins("demo.txt") <= pins("test.txt")
