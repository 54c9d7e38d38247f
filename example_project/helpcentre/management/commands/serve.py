from __future__ import annotations

import os
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError, CommandParser

from example_project.children import Children
from example_project.children import Command as Django
from example_project.helpcentre.management.commands.prepare import ADMIN
from example_project.servers import HOST, StandIn, Valkey, free_port

LATENCY = 1.0
PATIENCE = 120.0  # seconds for the pages' server to start


class Command(BaseCommand):
    help = "Opens the help-centre for you to try: with a Valkey and a stand-in for Claude of its own. Ctrl-C ends it."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, help="where the pages are; a free port if not given")
        parser.add_argument("--redis", metavar="URL", help="a Redis of yours instead of the embedded Valkey")
        parser.add_argument("--no-visitors", action="store_true", help="nobody visits but you")
        parser.add_argument(
            "--real", action="store_true", help="ask the real Claude; costs money, needs ANTHROPIC_API_KEY"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["real"] and not os.environ.get("ANTHROPIC_API_KEY"):
            raise CommandError("--real asks the real Claude, which costs money: set ANTHROPIC_API_KEY first.")
        if options["redis"]:
            _must_answer(options["redis"])
        try:
            with tempfile.TemporaryDirectory(prefix="aicache-") as folder, Children() as children:
                port = options.pop("port") or free_port()
                self._serve(children, Path(folder), port, **options)
        except KeyboardInterrupt:
            self.stdout.write("\nClosed.")

    def _serve(self, children: Children, folder: Path, port: int, **options: Any) -> None:
        redis_url, real = options["redis"], options["real"]
        self.stdout.write("Opening the help centre …")
        self.stdout.flush()
        standin = None if real else children.start(StandIn(LATENCY))
        password = secrets.token_urlsafe(9)
        environment = {
            "AICACHE_DEMO_REDIS": redis_url or children.start(Valkey(folder)).url,
            "AICACHE_DEMO_CLAUDE": standin.url if standin else "",
            "AICACHE_DEMO_DB": os.environ.get("AICACHE_DEMO_DB") or str(folder / "helpcentre.sqlite3"),
        }
        prepare = Django(
            "prepare",
            "--verbosity=0",
            "--skip-checks",
            environment={**environment, "DJANGO_SUPERUSER_PASSWORD": password},
        )
        if children.start(prepare).process.wait():
            raise CommandError("The database could not be prepared; the reason is above.")
        # Its greeting would only hide ours; its log of requests and its errors come on stderr.
        pages = Django("runserver", "--noreload", f"{HOST}:{port}", environment=environment, stdout=subprocess.DEVNULL)
        process = children.start(pages).process
        children.start(Django("upkeep", environment=environment, stdout=subprocess.DEVNULL))
        if not (real or options["no_visitors"]):  # they would cost money
            children.start(Django("visit", environment=environment, stdout=subprocess.DEVNULL))
        url = f"http://{HOST}:{port}/"
        _await_pages(port, process)
        self.stdout.write(
            self._panel(
                [
                    ("Help centre", url),
                    ("Dashboard", f"{url}admin/aicache/metricbucket/"),
                    ("Admin", f"{url}admin/"),
                    ("", f"user {ADMIN}, password {password}"),
                    (
                        "Claude",
                        f"a stand-in at {standin.url}, free of charge" if standin else "the real one: costs money",
                    ),
                    ("Redis", redis_url or f"embedded Valkey at {environment['AICACHE_DEMO_REDIS']}"),
                ]
            )
        )
        self.stdout.flush()
        raise CommandError(f"The pages' server ended by itself (exit code {process.wait()}).")

    def _panel(self, rows: list[tuple[str, str]]) -> str:
        bold = self.style.MIGRATE_HEADING
        lines = [f"  {bold(label.ljust(11))}   {value}" for label, value in rows]
        return "\n".join(["", *lines, "", "  Ctrl-C closes everything.", ""])


def _must_answer(url: str) -> None:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise CommandError(f"There is no Redis at {url}: {error}") from error


def _await_pages(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CommandError("The pages' server did not start; the reason is above.")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CommandError(f"The pages' server did not start within {PATIENCE:.0f} s.")
