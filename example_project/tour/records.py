"""What goes from a worker to the tour, and from the tour to its table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Question:
    """``times``: by so many threads of one process at once. ``article``: the title of the one that it is about.
    ``once``: its idempotency key. ``stream``: word by word. ``catalogue``: the edition that it is asked with, and is
    to be about. ``policy``: another one than the help-centre's own."""

    tenant: str
    text: str
    times: int = 1
    bypass: bool = False
    refresh: bool = False
    article: str = ""
    once: str | None = None
    stream: bool = False
    catalogue: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Save:
    """An article that gets another text, as in the admin; ``as_it_is``: that keeps its text. ``dies``: the process is
    killed as soon as the database has committed."""

    tenant: str
    article: str
    as_it_is: bool = False
    dies: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """``tag``: the article's own. ``seconds``: until ``save()`` had returned."""

    tag: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How one question ended. ``usd_saved`` is None where no price is known. ``key``: the answer's. ``differs``: what
    was another in the request that its idempotency key had been used for. ``first``: seconds until the first word of a
    stream. ``prompt_cache``: what it did at that gate; ``tokens_read`` and ``tokens_written`` there."""

    text: str
    status: str
    seconds: float
    tokens_saved: int = 0
    usd_saved: Decimal | None = Decimal(0)
    reason: str = ""
    key: str = ""
    differs: str = ""
    first: float = 0.0
    prompt_cache: str = "off"
    tokens_read: int = 0
    tokens_written: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "usd_saved": None if self.usd_saved is None else str(self.usd_saved)}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        usd = told["usd_saved"]
        return cls(**{**told, "usd_saved": None if usd is None else Decimal(usd)})


@dataclass(frozen=True, slots=True)
class Run:
    """What a step saw. ``lost``: questions whose process was killed. ``measured``: the seconds that the promise is
    about, where they are not those of the whole step. ``note``: a remark for the table. ``printed``: what a command
    said that is worth showing."""

    seen: list[Seen]
    lost: int = 0
    measured: float = 0.0
    note: str = ""
    printed: str = ""


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
