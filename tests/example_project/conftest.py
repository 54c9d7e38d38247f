"""The example project's own settings over those of the tests, with its tables beside theirs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from aicache.testing import ClaudeServer
from aicache.testing.isolation import committing, isolated
from example_project import settings as example
from tests.example_project.commands import killed, started

# The tests' own database and Redis stay; the rest is the example's.
OWN = {
    name: getattr(example, name)
    for name in dir(example)
    if name.isupper() and name not in ("CACHES", "DATABASES", "DEBUG")
}


@pytest.fixture(scope="session")
def _site_tables(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    with override_settings(**OWN), django_db_blocker.unblock():
        call_command("migrate", verbosity=0, interactive=False)


@pytest.fixture
def site(_site_tables: None, db: None, claude: ClaudeServer) -> Iterator[None]:
    """The help-centre with its articles and an empty cache, asking the stand-in; what is saved is as if committed."""
    with override_settings(**{**OWN, "HELPCENTRE_CLAUDE_URL": claude.url}), isolated(), committing():
        from example_project.helpcentre.answers import client
        from example_project.helpcentre.seed import seed

        seed()
        client.cache_clear()
        yield
        client().close()
        client.cache_clear()


Manage = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def manage() -> Iterator[Manage]:
    """Starts commands of the example project that end with the test."""
    processes = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        processes.append(started(*arguments, **environment))
        return processes[-1]

    yield start
    for process in processes:
        killed(process)


def processes_of(group: int) -> list[str]:
    """What still runs of a process group; by /proc, so that a zombie is not taken for somebody who runs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        state, _parent, its_group = rest.split()[:3]
        if int(its_group) == group and state != "Z":
            found.append(name)
    return found
