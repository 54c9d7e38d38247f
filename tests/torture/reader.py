"""A process that asks, in every way that there is, and compares what it is told with what was acknowledged before."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import aicache
from tests.torture import upstream
from tests.torture.board import STATUSES, Board
from tests.torture.cells import Question
from tests.torture.place import Truth

logger = logging.getLogger("torture")

PAUSE = 0.012  # seconds between two questions, on average
TASKS = 3  # of an async reader
NAMED = 0.2  # the share of questions that are asked under an idempotency key
POLICIES = ("default", "brief", "strict", "strict_brief")
WEIGHTS = (6, 6, 2, 1)


# What the database had kept, by the reason that is given.
KEPT = {"copy": "copies", "idempotency_key": "pins"}


def about(question: Question, **more: Any) -> Any:
    """The scope in which it is asked."""
    return aicache.scope(tenant=question.tenant, sources=question.instances, tags=question.tags, **more)


def body(question: Question) -> dict[str, Any]:
    content = [{"role": "user", "content": question.text}]
    return {"model": "claude-sonnet-5", "max_tokens": 400, "messages": content}


@dataclass(frozen=True)
class Asked:
    """One question, and the version of each row that the answer must not lie behind."""

    question: Question
    policy: str
    way: str
    least: dict[int, int]
    name: str | None = None

    def behind(self, answer: dict[str, int]) -> dict[int, tuple[int, int]]:
        """What is stale: by cell, the version that was told and the one that had to be."""
        told = {int(cell): version for cell, version in answer.items()}
        return {cell: (told.get(cell, 0), least) for cell, least in self.least.items() if told.get(cell, 0) < least}


class Reader:
    def __init__(
        self, board: Board, slot: int, questions: list[Question], configuration: dict[str, Any], seed: int
    ) -> None:
        self.board = board
        self.slot = slot
        self.questions = questions
        self.weights = [1 / (at + 2) for at in range(len(questions))]
        self.rng = random.Random(seed)
        self.truth = Truth(configuration)

    def pick(self) -> Asked:
        """A strict reader must see what was committed by now, any other what was acknowledged."""
        (question,) = self.rng.choices(self.questions, self.weights)
        (policy,) = self.rng.choices(POLICIES, WEIGHTS)
        way = self.rng.choice(("create", "create", "remember"))
        # The other ways make one request.
        request = "value" if way == "remember" else "message"
        name = f"{question.number} {request}" if self.rng.random() < NAMED else None
        cells = [cell.number for cell in question.cells]
        if policy.startswith("strict"):
            self.board.readers.add(self.slot, "strict")
            least = self.truth.versions(cells)
        else:
            least = {cell: self.board.least(cell) for cell in cells}
        return Asked(question, policy, way, least, name)

    def scope(self, asked: Asked) -> Any:
        return about(asked.question, policy=asked.policy, idempotency_key=asked.name)

    def body(self, asked: Asked) -> dict[str, Any]:
        return body(asked.question) | {"metadata": {"user_id": str(self.slot)}}  # no part of the key

    def compare(self, asked: Asked, calls: Any, text: str) -> None:
        status, reason = (calls.last.status, calls.last.reason) if calls.last is not None else ("other", "")
        self.board.readers.add(self.slot, status if status in STATUSES else "other")
        self.board.readers.add(self.slot, "reads")
        if asked.name is not None:
            self.board.readers.add(self.slot, "keys")
        if reason in KEPT:
            self.board.readers.add(self.slot, KEPT[reason])
        if behind := asked.behind(json.loads(text)):
            self.board.readers.add(self.slot, "found_stale")
            question = asked.question
            print(
                f"STALE: {status} {reason} for {question.text!r} of {question.tenant!r} (policy {asked.policy}, "
                f"{asked.way}, key {asked.name}, sources {[cell.number for cell in question.sources]}, tags "
                f"{question.tags}): by cell, told and acknowledged {behind}",
                file=sys.stderr,
                flush=True,
            )

    def failed(self, asked: Asked) -> None:
        logger.exception("asking %r failed (%s, %s)", asked.question.text, asked.policy, asked.way)
        self.board.readers.add(self.slot, "failures")

    def _read(self, asked: Asked) -> tuple[dict[int, int], float]:
        return self.truth.versions([cell.number for cell in asked.question.cells]), upstream.latency(self.rng)

    # Sync

    def run(self, client: Any) -> None:
        while not self.board.stopping:
            time.sleep(self.rng.expovariate(1 / PAUSE))
            asked = self.pick()
            try:
                with self.scope(asked) as calls:
                    text = self.ask(client, asked)
                self.compare(asked, calls, text)
            except Exception:  # noqa: BLE001 - whatever it is, it is counted
                self.failed(asked)

    def ask(self, client: Any, asked: Asked) -> str:
        if asked.way == "remember":

            def call() -> dict[int, int]:
                versions, late = self._read(asked)
                time.sleep(late)
                return versions

            return json.dumps(aicache.remember({"question": asked.question.text}, call))
        if asked.way == "stream":
            with client.messages.stream(**self.body(asked)) as stream:
                return str(stream.get_final_text())
        return str(client.messages.create(**self.body(asked)).content[0].text)

    # Async

    async def arun(self, client: Any) -> None:
        await asyncio.gather(*(self._task(client) for _ in range(TASKS)))

    async def _task(self, client: Any) -> None:
        while not self.board.stopping:
            await asyncio.sleep(self.rng.expovariate(1 / PAUSE / TASKS))
            asked = self.pick()
            try:
                with self.scope(asked) as calls:
                    text = await self.aask(client, asked)
                self.compare(asked, calls, text)
            except Exception:  # noqa: BLE001 - whatever it is, it is counted
                self.failed(asked)

    async def aask(self, client: Any, asked: Asked) -> str:
        if asked.way == "remember":

            async def call() -> dict[int, int]:
                versions, late = self._read(asked)
                await asyncio.sleep(late)
                return versions

            return json.dumps(await aicache.remember({"question": asked.question.text}, call))
        if asked.way == "stream":
            async with client.messages.stream(**self.body(asked)) as stream:
                return str(await stream.get_final_text())
        return str((await client.messages.create(**self.body(asked))).content[0].text)
