"""The help-centre as ``manage.py serve`` opens it, for as many tests as want it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aicache.testing.control import ClaudeControl
from tests.example_project.commands import PATIENCE, closed, opened, started

PANEL = re.compile(
    r"Help centre +(?P<url>\S+)/\n.*user (?P<user>\S+), password (?P<password>\S+)\n.*a stand-in at (?P<claude>\S+),"
    r".*embedded Valkey at (?P<redis>\S+)\n",
    re.DOTALL,
)


class Site:
    """``claude`` steers its stand-in, which answers at once. ``staff``: the cookies of who has logged in, if anybody.

    Its articles and its cache are everybody's who uses it: a test asks what no other asks. ``database``: its SQLite
    file.
    """

    url: str
    user: str
    password: str
    claude: ClaudeControl
    redis: str
    staff: Any = None

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="site-", ignore_cleanup_errors=True)
        self.database = Path(self._folder.name) / "site.sqlite3"

    def __enter__(self) -> Self:
        # A pipe that nobody reads would be full after some hundred requests, and the site would stand still.
        self._log = tempfile.TemporaryFile("w+")
        self._process = started("serve", "--no-visitors", stderr=self._log, AICACHE_DEMO_DB=str(self.database))
        try:
            said = PANEL.search(opened(self._process))
            assert said
        except BaseException as error:
            error.add_note(self.log())
            self.__exit__(None, None, None)
            raise
        self.url, self.user, self.password, self.redis = said.group("url", "user", "password", "redis")
        self.claude = ClaudeControl(said["claude"])
        self.claude.set(latency=0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closed(self._process)
        self._log.close()
        self._folder.cleanup()

    def run(self, code: str) -> None:
        """In a process of its own, with its database."""
        process = started("shell", "--no-imports", "-c", code, AICACHE_DEMO_DB=str(self.database))
        said, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said + errors

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        """What it has told of requests and of errors."""
        self._log.seek(0)
        return self._log.read()
