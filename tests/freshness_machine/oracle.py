"""The promises, in plain Python: what was committed, acknowledged and called when, and what may be served after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aicache.core.records import Ask, Entry, Served
from aicache.core.tags import EVERYBODY, Tag, members, of_answer

# One answer is made from a row, the other from all of them: the names that each hangs on.
QUESTIONS: Final = {"1": ("m", "m:1"), "2": ("m", members("m"))}


def concerns(tag: Tag, ask: Ask) -> bool:
    if tag.answer is not None:
        return tag == of_answer(ask.lineage, ask.key, ask.tenant)
    return tag.name in QUESTIONS[ask.key[0]] and tag.tenant in (ask.tenant, EVERYBODY)


class Broken(AssertionError):
    """A promise was."""


@dataclass(eq=False)
class Death:
    """A tag was invalidated: committed, acknowledged, and its saver told that it is done, at these moments."""

    tag: Tag
    process: Any
    committed: int
    acknowledged: int | None = None
    returned: int | None = None


@dataclass(eq=False)
class Request:
    """A caller, and when it came."""

    ask: Ask
    process: Any
    began: int
    at: float
    inside: bool = False  # a transaction that has invalidated one of its tags


@dataclass(eq=False)
class Made:
    """A call of upstream: its answer is from what was committed when it began, or is its caller's alone."""

    ask: Ask
    began: int
    inside: bool


@dataclass
class Oracle:
    """``owns``: whether a process answers for what its own savers could not make known."""

    owns: bool
    moment: int = 0
    deaths: list[Death] = field(default_factory=list)
    calls: list[Made] = field(default_factory=list)

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def committed(self, tags: Sequence[Tag], process: Any) -> list[Death]:
        now = self.tick()
        deaths = [Death(tag, process, now) for tag in tags]
        self.deaths += deaths
        return deaths

    def acknowledged(self, death: Death) -> None:
        death.acknowledged = death.acknowledged or self.tick()

    def returned(self, deaths: Sequence[Death]) -> None:
        now = self.tick()
        for death in deaths:
            death.returned = now

    def request(self, ask: Ask, process: Any, at: float, *, inside: bool = False) -> Request:
        return Request(ask, process, self.tick(), at, inside)

    def call(self, request: Request) -> bytes:
        """The body of the answer, which is known by it."""
        self.calls.append(Made(request.ask, self.tick(), request.inside))
        return str(len(self.calls) - 1).encode()

    def judge(self, request: Request, served: Served) -> None:
        """Raises Broken."""
        if served.own is not None:
            return
        if served.failure is None:
            self._judge(request, served.status, served.given)

    def _judge(self, request: Request, status: str, entry: Entry) -> None:
        made = self.calls[int(entry.answer.body)]
        ask = request.ask
        if request.inside:
            raise Broken("INSIDE: a transaction that has invalidated a tag was served what others see")
        if made.inside:
            raise Broken("INSIDE: what was made from uncommitted rows was served")
        if (made.ask.tenant, made.ask.key) != (ask.tenant, ask.key) or (entry.tenant, entry.key) != (
            ask.tenant,
            ask.key,
        ):
            raise Broken("APART: an answer crossed tenants or questions")
        # Who waits gets what a call came to that was alive when it came, whatever time that took.
        until = {"hit": entry.fresh_until, "stale": entry.dies_at}.get(status, float("inf"))
        if request.at >= until:
            raise Broken(f"EXPIRED: {status} for a caller that came after its time")
        for death in self.deaths:
            if concerns(death.tag, ask) and made.began < death.committed and (why := self._binds(death, request)):
                raise Broken(
                    f"STALE: {status} from a call of moment {made.began}, though {death.tag.shown} died at"
                    f" {death.committed} ({why}) and the caller came at {request.began}"
                )

    def _binds(self, death: Death, request: Request) -> str:
        """Why a caller must not get an answer from before this death; "" where it may."""
        if death.acknowledged is not None and death.acknowledged < request.began:
            return f"acknowledged at {death.acknowledged}"
        if request.ask.policy.consistency == "strict" and death.committed < request.began:
            return "strict"
        if self.owns and death.process is request.process and death.returned and death.returned < request.began:
            return f"its own process's saver returned at {death.returned}"
        return ""
