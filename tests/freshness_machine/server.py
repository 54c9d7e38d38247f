"""A real Valkey, of which each command is a step: it can be lost, emptied, and come back as it was some time ago."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from aicache.store import scripts
from tests.freshness_machine.actors import Life, pause

SILENCE: Final = b"silence"

DROP: Final = """
local keys = redis.call('KEYS', ARGV[1])
for _, key in ipairs(keys) do redis.call('UNLINK', key) end
return #keys
"""
# All that is to end within these milliseconds does; except some leases, which are renewed meanwhile.
PASS: Final = """
local renewed = {}
for _, key in ipairs(KEYS) do renewed[key] = true end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 and not renewed[key] then
    redis.call('PEXPIRE', key, left - tonumber(ARGV[1]))
  end
end
"""
DUMP: Final = """
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  table.insert(all, {key, redis.call('PTTL', key), redis.call('DUMP', key)})
end
return all
"""


class Server:
    """``hears``: what is told of each message that is published."""

    def __init__(self, url: str, hears: Callable[[bytes], None]) -> None:
        self._connection = _connection(url)
        self._subscription = _subscription(url)
        self._hears = hears
        self.run = 1  # a server that is started anew is another one
        self.away = 0
        self.loses_reply = False
        self.flips = False
        self.snapshot: list[Any] | None = None
        _load(url, tuple(script.text for script in _scripts()))
        self.execute("FLUSHALL")

    def execute(self, *command: Any) -> Any:
        self._connection.send_command(*command)
        return self._reply(command)

    def _reply(self, command: Sequence[Any]) -> Any:
        reply = self._connection.read_response()
        return UNDERSTOOD[command[0]](reply) if command[0] in UNDERSTOOD else reply

    def perform(self, *command: Any) -> Any:
        """For a process: whoever waits hears at once what a script has published."""
        speaks = command[1] in (scripts.LEAD.digest, scripts.FINISH.digest)
        reply = self._heard(command) if speaks else self.execute(*command)
        if self.loses_reply:
            self.loses_reply = False
            raise TimeoutError("the reply is lost")
        return reply

    def _heard(self, command: Sequence[Any]) -> Any:
        """Published is all that comes before what is said next."""
        pack = self._connection.pack_command
        self._connection.send_packed_command([*pack(*command), *pack("PUBLISH", SILENCE, "")])
        try:
            return self._reply(command)
        finally:
            self._connection.read_response()
            while (message := self._subscription.read_response())[2] != SILENCE:
                self._hears(message[3])

    def evict(self, pattern: str) -> None:
        self.execute("EVAL", DROP, 0, pattern)

    def pass_by(self, seconds: float, renewed: Sequence[str]) -> None:
        self.execute("EVAL", PASS, len(renewed), *renewed, int(seconds * 1000))

    def save(self) -> None:
        self.snapshot = self.execute("EVAL", DUMP, 0)

    def restart(self, *, restores: bool) -> None:
        """Comes back as another one, with nothing or with what was saved."""
        self.run += 1
        self.execute("FLUSHALL")
        for key, left, value in (self.snapshot or ()) if restores else ():
            self.execute("RESTORE", key, max(left, 0), value)


class Client:
    """In place of redis-py's, for one process: its connection meets a server, and dies with it."""

    def __init__(self, server: Server, process: Life, on_connect: Callable[[Any], None]) -> None:
        self._server = server
        self._process = process
        self._on_connect = on_connect
        self._met = 0
        self.connection_pool = self

    def disconnect(self, inuse_connections: bool = True) -> None:
        self._met = 0

    def get_node_from_key(self, key: str) -> Any:
        return SimpleNamespace(host="valkey", port=6379)

    def execute_command(self, *command: Any, target_nodes: Any = None) -> Any:
        server = self._server
        pause(_words(command))
        if server.away:
            self._met = 0
            raise ConnectionError("the server is away")
        if self._met != server.run:
            self._met = 0
            self._on_connect(Greeting(server.run))
            self._met = server.run
        return who(server.run, command[1]) if command[0] == "INFO" else server.perform(*command)

    def pipeline(self, transaction: bool) -> Pipeline:
        return Pipeline(self, self._server)


class Greeting:
    """A new connection, asked who answers."""

    host = "valkey"
    port = 6379

    def __init__(self, run: int) -> None:
        self._run = run
        self._asked: list[str] = []

    def on_connect(self) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def send_command(self, *command: Any) -> None:
        self._asked.append(command[1])

    def read_response(self) -> bytes:
        return b"\r\n".join(f"{name}:{value}".encode() for name, value in who(self._run, self._asked.pop(0)).items())


def who(run: int, section: str) -> dict[str, str]:
    """What INFO says."""
    return {"run_id": str(run)} if section == "server" else {"role": "master", "master_replid": "the same"}


class Pipeline:
    """Its commands reach a server one by one, and the nodes of a cluster in any order."""

    def __init__(self, client: Client, server: Server) -> None:
        self._client = client
        self._flips = server.flips
        self._commands: list[Any] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def execute(self, raise_on_error: bool) -> list[Any]:
        replies: dict[int, Any] = {}
        order = range(len(self._commands))
        for at in reversed(order) if self._flips else order:
            try:
                replies[at] = self._client.execute_command(*self._commands[at])
            except ResponseError as error:
                replies[at] = error
        return [replies[at] for at in order]


@cache
def _connection(url: str) -> redis.Connection:
    connection = redis.Connection(**redis.connection.parse_url(url))
    connection.connect()
    return connection


@cache
def _subscription(url: str) -> redis.Connection:
    connection = redis.Connection(protocol=2, **redis.connection.parse_url(url))
    connection.connect()
    connection.send_command("PSUBSCRIBE", "*")
    connection.read_response()
    return connection


UNDERSTOOD: Final = redis.Redis(protocol=2).response_callbacks


def _words(command: Sequence[Any]) -> str:
    if command[0] == "DEL":
        return "STAMP_AGAIN"  # as a purge of a single answer does
    if command[0] in ("EVALSHA", "EVAL"):
        return next(
            (name for name, found in vars(scripts).items() if getattr(found, "digest", "") == command[1]), "EVAL"
        )
    return " ".join(str(word)[:60] for word in command[:2])


def _scripts() -> list[scripts.Script]:
    return [found for found in vars(scripts).values() if isinstance(found, scripts.Script)]


@cache
def _load(url: str, texts: tuple[str, ...]) -> None:
    """So that no example has a step more than another, because it is the first."""
    for text in texts:
        connection = _connection(url)
        connection.send_command("SCRIPT", "LOAD", text)
        connection.read_response()
