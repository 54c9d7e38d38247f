"""The servers of the second lane: where they are, and whether they answer.

``python -m tests.services`` says so, and fails where one that is promised does not answer. ``AICACHE_TEST_SERVICES``
names the promised ones, separated by commas; unset, it is all of them. ``--answering`` prints the names of those that
answer and promises nothing.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

PATIENCE: Final = 3.0  # seconds


@dataclass(frozen=True)
class Service:
    """``hello`` is sent, and ``reply`` is how an answer begins: an open port alone says little."""

    name: str
    variable: str
    default: str
    hello: bytes
    reply: tuple[bytes, ...]

    @property
    def url(self) -> str:
        return os.environ.get(self.variable) or self.default

    def trouble(self) -> str:
        """Why it cannot be used, or ""."""
        address = urlsplit(self.url)
        port = address.port or urlsplit(self.default).port or 0
        try:
            with socket.create_connection((address.hostname or "127.0.0.1", port), PATIENCE) as connection:
                connection.settimeout(PATIENCE)
                connection.sendall(self.hello)
                said = connection.recv(64)
        except OSError as error:
            return str(error)
        return "" if said.startswith(self.reply) else f"it says {said!r}"


SERVICES: Final = {
    service.name: service
    for service in (
        Service(
            "postgresql",
            "AICACHE_TEST_POSTGRESQL",
            "postgresql://postgres@127.0.0.1:5432/postgres",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # SSLRequest
            (b"S", b"N"),
        ),
        Service(
            "redis",
            "AICACHE_TEST_SYSTEM_REDIS",
            "redis://127.0.0.1:6379/9",
            b"PING\r\n",
            (b"+PONG", b"-NOAUTH"),
        ),
        Service(
            "rabbitmq",
            "AICACHE_TEST_RABBITMQ",
            "amqp://guest:guest@127.0.0.1:5672//",
            b"AMQP\x00\x00\x09\x01",
            (b"\x01\x00\x00",),  # the method Connection.Start
        ),
    )
}


@contextmanager
def postgresql_database() -> Iterator[dict[str, Any]]:
    """Django's configuration of a new one, which is dropped in the end, whoever is connected to it."""
    import psycopg

    url = SERVICES["postgresql"].url
    address, name = urlsplit(url), f"aicache_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    try:
        yield {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": unquote(address.username or ""),
            "PASSWORD": unquote(address.password or ""),
            "HOST": address.hostname,
            "PORT": address.port or 5432,
        }
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def promised() -> list[Service]:
    """Those that a test may not skip for. SystemExit names what is no service."""
    names = os.environ.get("AICACHE_TEST_SERVICES") or ",".join(SERVICES)
    if unknown := set(names.split(",")) - set(SERVICES):
        sys.exit(f"AICACHE_TEST_SERVICES names {', '.join(sorted(unknown))}; known: {', '.join(SERVICES)}")
    return [SERVICES[name] for name in names.split(",")]


def queues(namespace: str) -> list[Any]:
    """The one queue of a test and its worker, gone from the broker when both are."""
    from kombu import Queue

    return [Queue(f"aicache-{namespace}", auto_delete=True)]


def main() -> int:
    if "--answering" in sys.argv[1:]:
        sys.stdout.write(",".join(service.name for service in SERVICES.values() if not service.trouble()) + "\n")
        return 0
    troubles = {service: trouble for service in promised() if (trouble := service.trouble())}
    for service, trouble in troubles.items():
        sys.stderr.write(
            f"{service.name} is promised and does not answer: {trouble}. Start it, or say where it is with "
            f"{service.variable} (without it: {service.default}), or name those that you have with "
            f"AICACHE_TEST_SERVICES={','.join(SERVICES)}\n"
        )
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
