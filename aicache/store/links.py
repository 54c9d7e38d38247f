"""Connections to one server as it was met. Each new connection finds out whether it leads to the same memory still.

A server that was started anew has another memory: none, or that of an old snapshot. So has a replica that was promoted.
Both show in the server's run id and replication id, which make the *epoch* that is part of every stamp: a stamp of
another epoch counts as missing, whoever restored it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import ResponseError

from aicache.store.address import Address
from aicache.store.breaker import Displaced
from aicache.store.clients import async_client, sync_client
from aicache.store.keys import Keys, switch_key
from aicache.store.payload import EPOCH
from aicache.store.scripts import Command

logger = logging.getLogger("aicache.store")

# What a user may not ask is the same for all servers: none of them is told apart from another.
UNKNOWN: Final = "unknown"
# A server that is made a replica by hand keeps its clients, and says nothing: it is asked this often.
CHECK_EVERY: Final = 5.0


class Link:
    """One client, and the keys that are good with it. Open it before use."""

    def __init__(self, address: Address, site: str, *, cluster: bool, awaits: bool = False) -> None:
        self.is_cluster = cluster
        self.keys = Keys(site, "")
        self._label = address.label
        self._site_key = switch_key(site)
        self._place = ""  # where the stamps are: they alone say what is fresh
        self._met: dict[str, str] = {}  # who answers, by place: a cluster has several
        self._checked = 0.0
        self.client: Any = (
            async_client(address, cluster=cluster, on_connect=self._ameet)
            if awaits
            else sync_client(address, cluster=cluster, on_connect=self._meet)
        )

    def open(self) -> Link:
        """Learns who the server is, from the first connection. Raises redis errors."""
        self.client.execute_command("EXISTS", self._site_key)
        self._learn()
        return self

    async def aopen(self) -> None:
        await self.client.execute_command("EXISTS", self._site_key)
        self._learn()

    def settle(self) -> None:
        """After each plan: raises Displaced where a cluster has moved the stamps, which its client follows silently."""
        if self.is_cluster and self._owner() != self._place:
            raise Displaced(f"the stamps are at {self._owner()}, not at {self._place}")

    def is_due(self) -> bool:
        """Whether it is time to ask again who the server is; for one of those who ask this."""
        now = time.monotonic()
        due = now - self._checked > CHECK_EVERY
        if due:
            self._checked = now
        return due

    def check(self) -> None:
        """Raises Displaced where the server is another one by now, or was made a replica."""
        try:
            answers = [self.client.execute_command(*command, **self._at_owner()) for command in WHO]
        except ResponseError:
            return
        self._compare(self._place, answers)

    async def acheck(self) -> None:
        try:
            answers = [await self.client.execute_command(*command, **self._at_owner()) for command in WHO]
        except ResponseError:
            return
        self._compare(self._place, answers)

    def _learn(self) -> None:
        self._place = self._owner()
        identity = self._met.get(self._place)
        if identity is None or identity.startswith(REPLICA):
            raise Displaced("the server that has the stamps is a replica, or was not met")
        self.keys = Keys(self.keys.site, hashlib.sha256(identity.encode()).hexdigest()[:EPOCH])
        self._checked = time.monotonic()

    def _owner(self) -> str:
        if not self.is_cluster:
            return ""
        node = self.client.get_node_from_key(self._site_key)
        return f"{node.host}:{node.port}"

    def _at_owner(self) -> dict[str, Any]:
        return {"target_nodes": self.client.get_node_from_key(self._site_key)} if self.is_cluster else {}

    def _meet(self, connection: Any) -> None:
        try:
            if not self.is_cluster:  # a cluster's client does it by itself
                connection.on_connect()
            for command in WHO:
                connection.send_command(*command)
            answers = []
            for _ in WHO:
                try:
                    answers.append(connection.read_response())
                except ResponseError as refusal:
                    answers.append(refusal)
            self._compare(self._place_of(connection), answers)
        except BaseException:  # such as a soft time limit: its pool would take it for one that was met
            connection.disconnect()
            raise

    async def _ameet(self, connection: Any) -> None:
        try:
            await connection.on_connect()
            for command in WHO:
                await connection.send_command(*command)
            answers = []
            for _ in WHO:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as refusal:
                    answers.append(refusal)
            self._compare(self._place_of(connection), answers)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _place_of(self, connection: Any) -> str:
        return f"{connection.host}:{connection.port}" if self.is_cluster else ""

    def _compare(self, place: str, answers: list[Any]) -> None:
        identity = _identity(*map(_facts, answers))
        if UNKNOWN in identity and self._label not in _unknown:
            _unknown.add(self._label)
            logger.warning("Redis does not say who it is (INFO is refused): an old snapshot would not be noticed")
        if (known := self._met.setdefault(place, identity)) != identity:
            raise Displaced(f"another memory than before ({identity}, not {known})")


WHO: Final[tuple[Command, ...]] = (("INFO", "server"), ("INFO", "replication"))
# The servers of which it has been said, once for each, that they do not say who they are.
_unknown: Final[set[str]] = set()
# Its memory is somebody else's, and late: nothing is read from it.
REPLICA: Final = "replica "


def _identity(server: Mapping[str, str], replication: Mapping[str, str]) -> str:
    memory = f"{server.get('run_id', UNKNOWN)}/{replication.get('master_replid', UNKNOWN)}"
    return memory if replication.get("role", "master") == "master" else REPLICA + memory


def _facts(answer: Any) -> Mapping[str, str]:
    """What INFO says, as it comes from a connection or from a client."""
    if isinstance(answer, bytes):
        lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
        return {name: value for name, _, value in lines}
    return {str(name): str(value) for name, value in answer.items()} if isinstance(answer, Mapping) else {}
