"""The world over a real server: the store's own connections, breaker and ear, in several processes."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from aicache.freshness import recovery
from aicache.store import Address, Store
from tests.freshness_machine.actors import Life
from tests.freshness_machine.machine import Machine
from tests.freshness_machine.server import Client, Server
from tests.freshness_machine.world import Driven, Process, World


class OnRedis(World):
    """``cluster``: as the store asks one, though there is one node."""

    def __init__(self, url: str, *, processes: int, cluster: bool, durable: bool) -> None:
        super().__init__(durable=durable)
        self.server = Server(url, self._hear)
        self.cluster = cluster
        for _ in range(processes):
            self.start()

    def start(self) -> None:
        process = Process()
        store = Store(Address(("redis://valkey",), {"process": process}), "site")
        store.connections._cluster = self.cluster
        store.connections.recovering.append(recovery.recover)
        store.ear._pubsub = object()  # it hears what scripts publish, at once
        store.leases._thread = threading.main_thread()  # time passes only when it is said to, see pass_by()
        process.store = store
        process.cache = Driven(process, self)
        self.processes.append(process)

    def client(self, process: Life, on_connect: Any) -> Client:
        return Client(self.server, process, on_connect)

    def _hear(self, message: bytes) -> None:
        for process in self.processes:
            process.store.ear._take({"type": "message", "data": message})

    def _lose_news(self) -> None:
        for process in self.processes:
            process.store.ear.let_go()

    def befall(self, what: str, moves: int) -> None:
        match what:
            case "the server is away":
                self.server.away = moves
                self._lose_news()
            case "a reply is lost":
                self.server.loses_reply = True
            case "a snapshot":
                self.server.save()
            case "another server" | "another server with the snapshot":
                self.server.restart(restores=what != "another server")
                self._lose_news()
            case _:
                super().befall(what, moves)

    def count_down(self) -> None:
        super().count_down()
        self.server.away = max(self.server.away - 1, 0)

    def bring_back(self) -> None:
        super().bring_back()
        self.server.away = 0
        self.server.loses_reply = False

    def pass_by(self, seconds: float) -> None:
        super().pass_by(seconds)
        kept = [] if self.server.away else [process.store.leases for process in self.processes]
        held = [each for leases in kept for each in leases._held.values()]
        renewed = [key for keys, led in held if led() is not None for key in keys]
        self.server.pass_by(seconds, renewed)

    def evict(self, pattern: str) -> None:
        self.server.evict(pattern)

    def flips(self, flips: bool) -> None:
        self.server.flips = flips


class RedisMachine(Machine):
    url: ClassVar[str]
    cluster: ClassVar[bool] = False

    def make(self) -> World:
        return OnRedis(self.url, processes=self.processes, cluster=self.cluster, durable=self.durable)
