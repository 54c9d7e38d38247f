"""What goes from a worker to the tour, and from the tour to its table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Question:
    """``times``: by so many threads of one process at once. ``article``: the title of the one that it is about."""

    tenant: str
    text: str
    times: int = 1
    bypass: bool = False
    article: str = ""


@dataclass(frozen=True, slots=True)
class Save:
    """An article that gets another text, as in the admin. ``dies``: it keeps its text, and the process is killed as
    soon as the database has committed."""

    tenant: str
    article: str
    dies: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """``tag``: the article's own. ``seconds``: until ``save()`` had returned."""

    tag: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How one question ended. ``usd_saved`` is None where no price is known."""

    text: str
    status: str
    seconds: float
    tokens_saved: int = 0
    usd_saved: Decimal | None = Decimal(0)
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        usd = None if self.usd_saved is None else str(self.usd_saved)
        return {
            "text": self.text,
            "status": self.status,
            "seconds": self.seconds,
            "tokens_saved": self.tokens_saved,
            "usd_saved": usd,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        usd = told["usd_saved"]
        return cls(**{**told, "usd_saved": None if usd is None else Decimal(usd)})


@dataclass(frozen=True, slots=True)
class Run:
    """What a step saw. ``lost``: questions whose process was killed. ``measured``: the seconds that the promise is
    about, where they are not those of the whole step. ``note``: a remark for the table."""

    seen: list[Seen]
    lost: int = 0
    measured: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that is over. ``calls``: how many reached Claude. ``wrong``: what was not as promised, in words."""

    name: str
    promise: str
    run: Run
    seconds: float
    calls: int
    wrong: tuple[str, ...] = ()

    @property
    def statuses(self) -> Counter[str]:
        return Counter(seen.status for seen in self.run.seen)

    @property
    def tokens_saved(self) -> int:
        return sum(seen.tokens_saved for seen in self.run.seen)

    @property
    def usd_saved(self) -> Decimal:
        return sum((seen.usd_saved or Decimal(0) for seen in self.run.seen), Decimal(0))
